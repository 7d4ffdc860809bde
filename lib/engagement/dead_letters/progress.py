"""How far a long command is, as lines on stderr, apart from what programs read."""

import sys
from collections.abc import Callable

SECONDS = 1.0
"""Least time between two lines."""


class Progress:
    """`clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._next = clock() + SECONDS

    def show(self, text: str) -> None:
        """Write a line if the last one, or the start, is long enough ago."""
        if self._clock() >= self._next:
            self._next = self._clock() + SECONDS
            sys.stderr.write(f"dead-letters: {text}\n")
            sys.stderr.flush()
