"""How far each shard was seen to be: what finds out that Redis went back in time, also while no message comes.

A failover to a replica, a log that was cut and an older copy lose the newest seconds of everything, and the shards say
so: the place of each only grows otherwise, since generations follow the clock and none is used twice.
"""

import threading
from collections.abc import Mapping

Place = tuple[int, int]
"""A shard's generation and next offset."""


class Places:
    """The farthest places that this process has seen or written; any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[int, Place] = {}

    def known(self) -> dict[int, Place]:
        """Partition -> place. Asked before the shards are: what is written meanwhile lies behind their answer."""
        with self._lock:
            return dict(self._known)

    def note(self, found: Mapping[int, Place]) -> None:
        """The shards have answered this."""
        with self._lock:
            self._known |= {p: max(place, self._known.get(p, place)) for p, place in found.items()}

    def delivered(self, ends: Mapping[int, int]) -> None:
        """The shards, of generations that are known, have been written up to these offsets."""
        with self._lock:
            for partition, end in ends.items():
                if partition in self._known:
                    generation, following = self._known[partition]
                    self._known[partition] = (generation, max(following, end))

    def forget(self) -> None:
        """All shards have been counted again: whatever they were before is of no matter."""
        with self._lock:
            self._known.clear()


def went_back(known: Mapping[int, Place], found: Mapping[int, Place]) -> list[int]:
    """Partitions whose shard stands before a place that it had reached.

    >>> went_back({0: (7, 50), 1: (7, 50), 2: (7, 50)}, {0: (7, 49), 1: (6, 90), 2: (8, 10), 3: (1, 1)})
    [0, 1]
    """
    return sorted(partition for partition, place in found.items() if place < known.get(partition, place))
