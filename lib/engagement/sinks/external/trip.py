"""The circuit breaker that the lanes of one task share: whether to go on. Its counterpart on the driver is gate.py."""

import threading
from dataclasses import dataclass, field

from engagement.sinks.external.lane import Halt

LONGEST_WAIT_SECONDS = 2.0
"""A wait beyond that is the driver's to bear: here it would hold a slot of Spark's."""
FAILURES_IN_A_ROW = 5
"""After so many, without a success in any lane, it is the receiver that is at fault and not a request."""
_POLL_SECONDS = 0.2


@dataclass
class Tally:
    """What was sent in a task."""

    requests: int = 0
    refused: int = 0
    """Of those: refused for what they held."""
    failures: int = 0
    """Of those: neither a success nor a refusal."""
    retries: int = 0
    """Of those: the same request again, before its round was over."""


@dataclass
class Trip:
    """Open (`stopped`) after an answer that pauses, a long Retry-After, or failures in a row; it stays so in its task.

    `cautious`: the receiver failed a moment ago, so one request goes out first, and the others after its success.
    """

    cautious: bool
    halt: Halt | None = None
    """The gravest failure."""
    stopped: bool = False
    tally: Tally = field(default_factory=Tally)
    _in_a_row: int = 0
    _probing: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _proven: threading.Event = field(default_factory=threading.Event)

    def may_go(self) -> bool:
        """Whether a lane may send now."""
        with self._lock:
            if self.stopped or not self.cautious or self._proven.is_set():
                return not self.stopped
            first, self._probing = not self._probing, True
            return first

    def wait(self) -> None:
        """Wait a moment for the first request's end."""
        self._proven.wait(_POLL_SECONDS)

    def succeeded(self, *, refused: bool = False) -> None:
        """A request was answered with success, or was refused as such."""
        with self._lock:
            self.tally.requests += 1
            self.tally.refused += refused
            self._in_a_row = 0
        self._proven.set()

    def failed(self, halt: Halt) -> None:
        """A request has to be sent again, some time."""
        with self._lock:
            self.tally.requests += 1
            self.tally.failures += 1
            self._in_a_row += 1
            if self.halt is None or halt.gravity >= self.halt.gravity:
                self.halt = halt
            long = halt.gravity > (False, LONGEST_WAIT_SECONDS)
            self.stopped = self.stopped or long or self.cautious or self._in_a_row >= FAILURES_IN_A_ROW
        if self.stopped:
            self._proven.set()  # nobody need wait for a success any more

    def retries(self) -> None:
        """A request is sent again."""
        with self._lock:
            self.tally.retries += 1
