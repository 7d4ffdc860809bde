"""Whether anything may be sent now: the circuit breaker on the driver. A state machine; the clock is passed in.

Closed: send. After a failure it is open for a while: nothing is sent but a probe at the end of it, a heartbeat, whose
success lets one careful round through (half-open), and that round's success closes it. Paused is open too, at a slow
cadence: a person has to do something, and everything waits until it is done. Nothing is ever dropped for it.
"""

import threading
from collections.abc import Callable
from enum import StrEnum

from engagement.sinks.external.answers import Answer, Verdict
from engagement.sinks.external.lane import Halt

PAUSE_PROBE_SECONDS = 15.0
"""Between two probes of a receiver that refuses us."""


class GateState(StrEnum):
    """What the gate lets through."""

    CLOSED = "closed"
    """Everything."""
    HALF_OPEN = "half_open"
    """One careful round."""
    OPEN = "open"
    """A probe now and then."""
    PAUSED = "paused"
    """The same, rarely."""


class Gate:
    """Thread-safe; `jitter` gives the seconds to wait after the n-th failure in a row."""

    def __init__(self, jitter: Callable[[int], float]) -> None:
        self._jitter = jitter
        self._lock = threading.Lock()
        self._failures = 0
        self._until = 0.0
        self.state = GateState.CLOSED
        self.reason = ""
        """Why it is not closed, for people."""

    @property
    def is_passable(self) -> bool:
        """Whether a round may be sent."""
        return self.state in (GateState.CLOSED, GateState.HALF_OPEN)

    def wait_seconds(self, now: float) -> float:
        """Seconds until the next probe is due."""
        return max(0.0, self._until - now)

    def failed(self, halt: Halt, now: float) -> None:
        """A round or a probe came to nothing."""
        with self._lock:
            self._failures += 1
            if halt.pause:
                self.state, wait = GateState.PAUSED, PAUSE_PROBE_SECONDS
                self.reason = f"paused, nothing is lost: {halt.reason}"
            else:
                self.state = GateState.OPEN
                wait = max(self._jitter(self._failures), halt.retry_after_seconds or 0.0)
                self.reason = f"the receiver is away: {halt.reason}"
            self._until = now + wait

    def probed(self, answer: Answer, now: float) -> None:
        """A probe was answered. One that is refused as a heartbeat has got through all the same."""
        if answer.verdict in (Verdict.DONE, Verdict.REFUSED):
            with self._lock:
                self.state = GateState.CLOSED if self.state is GateState.CLOSED else GateState.HALF_OPEN
            return
        pause = answer.verdict is Verdict.PAUSE
        self.failed(Halt(answer.told, pause, answer.retry_after_seconds), now)

    def succeeded(self) -> None:
        """A round went through."""
        with self._lock:
            self._failures, self.state, self.reason = 0, GateState.CLOSED, ""
