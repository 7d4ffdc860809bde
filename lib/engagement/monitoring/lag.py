"""How long the oldest waiting message has been waiting, from what the ends of the partitions were and when. Pure.

Kafka says how many messages wait, not since when. So the ends are remembered; the message at `taken` came before the
first end beyond it was seen, and after the last end not beyond it was. The later of the two is assumed, so a figure is
late by at most one look (2 s), and a query that has taken everything always shows 0.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field

LOOKS = 1800
"""Ends remembered per partition: an hour of looks every 2 s while messages come; idle looks cost nothing."""


@dataclass
class _Ends:
    times: list[float] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)

    def note(self, end: int, now: float) -> None:
        if self.offsets and end < self.offsets[-1]:  # another topic under the same name
            self.times, self.offsets = [], []
        if not self.offsets or end > self.offsets[-1]:
            self.times.append(now)
            self.offsets.append(end)
            del self.times[:-LOOKS], self.offsets[:-LOOKS]

    def waited(self, taken: int, now: float) -> float:
        place = bisect_right(self.offsets, taken)
        return max(0.0, now - self.times[place]) if place < len(self.times) else 0.0


class LagClock:
    """Remembers the ends of one topic's partitions; `now` is any clock that does not go back, in seconds."""

    def __init__(self) -> None:
        self._partitions: dict[int, _Ends] = {}

    def note(self, ends: Mapping[int, int], now: float) -> None:
        """Remember where the partitions end at `now`."""
        for partition, end in ends.items():
            self._partitions.setdefault(partition, _Ends()).note(end, now)

    def waited(self, taken: Mapping[int, int], now: float) -> dict[int, float]:
        """Seconds by partition since the next message to take came; at least so many when it is older than our memory.

        >>> clock = LagClock()
        >>> clock.note({0: 10}, now=0.0)
        >>> clock.note({0: 15}, now=2.0)
        >>> clock.waited({0: 12}, now=5.0), clock.waited({0: 15}, now=5.0)
        ({0: 3.0}, {0: 0.0})
        """
        return {
            partition: ends.waited(taken[partition], now)
            for partition, ends in self._partitions.items()
            if partition in taken
        }
