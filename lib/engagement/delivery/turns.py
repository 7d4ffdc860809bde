"""Slow sinks work one after the other where that costs none of them long.

Triggers fall on multiples of their interval, so every 30 s lake, warehouse and external system are due in the same
second, and their bursts would meet on the processors that the ranking needs too. A destination that is slow must hold
up nobody else, though: a sink that has waited `patience_seconds` starts anyway, beside the one whose turn it is.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Shared by some queries; `patience_seconds` is the longest that one of them waits for the others."""

    def __init__(self, patience_seconds: float) -> None:
        self._patience_seconds = patience_seconds
        self._queue: deque[object] = deque()
        """Those that work or wait, in the order they came: a plain lock would let two busy ones pass it to and fro."""
        self._moved = threading.Condition()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Work within; alone, unless another one takes long."""
        me = object()
        with self._moved:
            self._queue.append(me)
            self._moved.wait_for(lambda: self._queue[0] is me, self._patience_seconds)
        try:
            yield
        finally:
            with self._moved:
                self._queue.remove(me)
                self._moved.notify_all()
