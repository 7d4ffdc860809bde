"""Time for tests of the demo: it passes while somebody waits."""

import math
import threading


class Clock:
    """Seconds, which pass while somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Alarm(threading.Event):
    """Set at a time of the clock."""

    def __init__(self, clock: Clock, at: float = math.inf) -> None:
        super().__init__()
        self.clock, self.at = clock, at

    def is_set(self) -> bool:
        return self.clock.now >= self.at

    def wait(self, timeout: float | None = None) -> bool:
        self.clock.now = min(self.clock.now + (timeout or 0.0), max(self.clock.now, self.at))
        return self.is_set()
