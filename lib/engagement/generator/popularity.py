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

_HITS = 40
_RISES_PER_SHIFT = 2
_SHIFTS_AT_MOST = 100


class Popularity(Generic[Item]):
    """Chooses items by a Zipf law over ranks; every SHIFT_SECONDS of event time some items change places with hits."""

    def __init__(self, items: Sequence[Item], chance: Random) -> None:
        self._ranked = list(items)
        self._chance = chance
        self._reached = list(accumulate((rank + 1) ** -ZIPF_EXPONENT for rank in range(len(items))))
        self._next_shift: float | None = None

    def choose(self, now: float) -> Item:
        """Return the choice of a person who comes at `now` (epoch seconds, never going back)."""
        if self._next_shift is None:
            self._next_shift = now + SHIFT_SECONDS
        if now >= self._next_shift:
            self._shift(now)
        drawn = self._chance.random() * self._reached[-1]
        return self._ranked[bisect_left(self._reached, drawn)]

    def _shift(self, now: float) -> None:
        since = now - (self._next_shift or now)
        # A pause of hours would otherwise be made up for one by one; after a hundred, nothing is where it was.
        for _ in range(min(1 + int(since / SHIFT_SECONDS), _SHIFTS_AT_MOST) * _RISES_PER_SHIFT):
            hit = self._chance.randrange(min(_HITS, len(self._ranked)))
            other = self._chance.randrange(len(self._ranked))
            self._ranked[hit], self._ranked[other] = self._ranked[other], self._ranked[hit]
        self._next_shift = now + SHIFT_SECONDS
