"""Freshness histograms: fixed buckets, quantile estimates, a recent view that forgets. Pure: callers pass the time."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

BUCKETS_SECONDS: tuple[float, ...] = (
    *(0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8),
    *(1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0),
)
"""Upper bounds, dense where the promises lie (0.4 s, 1 s, 5 s, 30 s); one more bucket holds all that is slower.

The last is well above the longest promise (60 s): above it nothing is known but the bound, and a promise that is the
bound could never be seen to be broken.
"""

LONGEST_SECONDS = 31_536_000.0
"""A year: what is beyond is a broken clock, and must not turn the sum into infinity."""

RECENT_SLOT_SECONDS = 10
RECENT_SLOTS = 6


@dataclass
class Histogram:
    """Counts per bucket since the start, the last bucket being everything above the last bound."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_SECONDS) + 1))
    sum_seconds: float = 0.0

    def add(self, seconds: float, count: int) -> None:
        """Count `count` observations of `seconds`; ahead of time (clocks that differ) counts as 0 s."""
        clamped = min(max(0.0, seconds), LONGEST_SECONDS)
        self.counts[bisect_left(BUCKETS_SECONDS, clamped)] += count
        self.sum_seconds += clamped * count

    def cumulative(self) -> tuple[int, ...]:
        """Observations at or below each upper bound; the last figure is the total."""
        running, result = 0, []
        for count in self.counts:
            running += count
            result.append(running)
        return tuple(result)


@dataclass
class RecentHistogram:
    """The newest minute of observations, kept in slots of 10 s and forgotten slot by slot."""

    slots: dict[int, Histogram] = field(default_factory=dict)

    def add(self, seconds: float, count: int, now: float) -> None:
        """Count observations made at `now` (monotonic seconds)."""
        self._forget(now)
        self.slots.setdefault(_slot(now), Histogram()).add(seconds, count)

    def merged(self, now: float) -> Histogram:
        """One histogram of the slots that are recent at `now`."""
        self._forget(now)
        total = Histogram()
        for slot in self.slots.values():
            total.counts = [a + b for a, b in zip(total.counts, slot.counts, strict=True)]
            total.sum_seconds += slot.sum_seconds
        return total

    def _forget(self, now: float) -> None:
        oldest = _slot(now) - RECENT_SLOTS + 1
        self.slots = {number: slot for number, slot in self.slots.items() if number >= oldest}


def _slot(now: float) -> int:
    return math.floor(now / RECENT_SLOT_SECONDS)


def estimate_quantile(counts: Sequence[int], quantile: float) -> float | None:
    """Seconds below which the share `quantile` (0..1) of observations lies, interpolated inside its bucket.

    None without observations. Above the last bound nothing is known but the bound, so that is the answer.

    >>> estimate_quantile([0, 4] + [0] * 21, 0.5)
    0.075
    """
    total = sum(counts)
    if total == 0:
        return None
    rank, below = quantile * total, 0
    for index, count in enumerate(counts[: len(BUCKETS_SECONDS)]):
        if count and below + count >= rank:
            lower = BUCKETS_SECONDS[index - 1] if index else 0.0
            share = (rank - below) / count
            return round(lower + (BUCKETS_SECONDS[index] - lower) * share, 6)
        below += count
    return BUCKETS_SECONDS[-1]
