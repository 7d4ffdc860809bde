"""What waits for a lane: pieces of a request's size, so few that a slow receiver holds up the reader."""

import threading
from collections import deque
from collections.abc import Callable, Sequence

from engagement.sinks.external.events import Event

_POLL_SECONDS = 0.5
"""Only for looking at the time limit; whoever waits is woken by what it waits for."""


class Inbox:
    """One thread puts, another takes; a lock an event would cost more than all else that is done with it."""

    def __init__(self, most_pieces: int) -> None:
        self._most_pieces = most_pieces
        self._pieces: deque[Sequence[Event]] = deque()
        self._ended = False
        self._changed = threading.Condition()

    def put(self, piece: Sequence[Event], given_up: Callable[[], bool]) -> bool:
        """Add events once there is room; false when `given_up` says so before."""
        with self._changed:
            while len(self._pieces) >= self._most_pieces:
                if given_up():
                    return False
                self._changed.wait(_POLL_SECONDS)
            self._pieces.append(piece)
            self._changed.notify_all()
        return True

    def end(self) -> None:
        """Nothing follows."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def take(self) -> Sequence[Event]:
        """The next piece; empty when nothing follows."""
        with self._changed:
            while not self._pieces:
                if self._ended:
                    return ()
                self._changed.wait()
            self._changed.notify_all()
            return self._pieces.popleft()
