"""Which content the next person chooses: a few are chosen very often, and which ones changes over time. Pure."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from random import Random
from typing import Generic, TypeVar

Item = TypeVar("Item")

ZIPF_EXPONENT = 1.05
SHIFT_SECONDS = 20.0
"""A hit rises or falls this often, so that a ten-minute ranking is seen to move."""

SHIFT_ROWS = 20_000
"""As many rows as live traffic has in SHIFT_SECONDS by default, for rows that come as fast as the machine writes."""

_HITS = 40
_RISES_PER_SHIFT = 2
_SHIFTS_AT_MOST = 100


class Popularity(Generic[Item]):
    """Chooses items by a Zipf law over ranks; every `period` some items change places with hits.

    Shifts have a Random of their own: how many there were by then must not change what is drawn from `chance`.
    """

    def __init__(self, items: Sequence[Item], chance: Random, shifts: Random, period: float = SHIFT_SECONDS) -> None:
        self._ranked = list(items)
        self._chance = chance
        self._shifts = shifts
        self._period = period
        self._reached = list(accumulate((rank + 1) ** -ZIPF_EXPONENT for rank in range(len(items))))
        self._next_shift: float | None = None

    def choose(self, now: float) -> Item:
        """Return the choice of a person who comes at `now` (epoch seconds or rows, as `period`; never going back)."""
        if self._next_shift is None:
            self._next_shift = now + self._period
        if now >= self._next_shift:
            self._shift(now)
        drawn = self._chance.random() * self._reached[-1]
        return self._ranked[bisect_left(self._reached, drawn)]

    def _shift(self, now: float) -> None:
        since = now - (self._next_shift or now)
        # A pause of hours would otherwise be made up for one by one; after a hundred, nothing is where it was.
        for _ in range(min(1 + int(since / self._period), _SHIFTS_AT_MOST) * _RISES_PER_SHIFT):
            hit = self._shifts.randrange(min(_HITS, len(self._ranked)))
            other = self._shifts.randrange(len(self._ranked))
            self._ranked[hit], self._ranked[other] = self._ranked[other], self._ranked[hit]
        self._next_shift = now + self._period
