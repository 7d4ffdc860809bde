"""How much really came while a benchmark measured: a generator that waits, or has died, leaves the ranking fresh."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from engagement.backfill.build import events_of
from engagement.settings import Settings


class Pace:
    """Rows a second over all the time that was measured; `newest` tells the highest id that PostgreSQL has given."""

    def __init__(self, newest: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        self._newest = newest
        self._clock = clock
        self._rows, self._seconds = 0, 0.0

    @classmethod
    def of(cls, settings: Settings) -> "Pace":
        """That of the events table; opens nothing before it measures."""
        events = events_of(settings)
        return cls(lambda: (events.id_bounds() or (0, 0))[1])

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Count what comes while the context lasts. Raises: TransientError when PostgreSQL does not answer."""
        began, first = self._clock(), self._newest()
        yield
        self._seconds += self._clock() - began
        self._rows += self._newest() - first

    @property
    def rows_per_second(self) -> float:
        """Rounded for people; 0 before anything was measured."""
        return round(self._rows / self._seconds, 1) if self._seconds else 0.0


def came(inserted_per_second: float, rate: int) -> str:
    """The same for a person, beside what was asked for.

    >>> came(998.4, 1000)
    '998 of 1,000 rows/s came in'
    """
    return f"{inserted_per_second:,.0f} of {rate:,} rows/s came in"
