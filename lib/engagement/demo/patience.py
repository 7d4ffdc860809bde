"""Looking again and again until it is as it should be, for a limited time; who is told to stop looks no more."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TypeVar

Result = TypeVar("Result")
_ASK_SECONDS = 1.0


class Patience:
    """Waits that end at once when `stop` is set; `clock` gives seconds."""

    def __init__(self, stop: threading.Event, clock: Callable[[], float] = time.monotonic) -> None:
        self.stop = stop
        self._clock = clock

    def looks(self, seconds: float, every: float) -> Iterator[None]:
        """Yield when it is time to look: at once, and then `every` so many seconds until `seconds` are over."""
        deadline = self._clock() + seconds
        while not self.stop.is_set():
            yield
            if self._clock() > deadline:
                break
            self.stop.wait(every)

    def answer(self, ask: Callable[[], Result], away: type[Exception], seconds: float) -> Result:
        """What `ask` returns, asked anew while that raises `away`; in the end it raises what it raises."""
        for _ in self.looks(seconds, _ASK_SECONDS):
            with suppress(away):
                return ask()
        return ask()
