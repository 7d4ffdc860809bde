"""What is compared, and what differences mean. Pure, but for the threads that ask both sides at once.

A side tells, for each range of ids, how many live events it has and the sums of the two halves of their 64-bit digests.
Ranges whose sums differ are halved until they are small enough to be looked at id by id.
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

LEAF_IDS = 2_048
"""A range of so many ids is looked at id by id."""
BUCKETS = 8_192
"""Ranges of the first look, at most: what the driver receives of each side."""


@dataclass(frozen=True)
class Sums:
    """What a side has in a range of ids."""

    events: int = 0
    high: int = 0
    low: int = 0
    extra: int = 0
    """Rows that repeat a version which the side has already."""


@dataclass(frozen=True)
class Slices:
    """Ranges of `width` ids each, counted from `first`; the last id that matters is `last`."""

    first: int
    last: int
    width: int

    def span(self, bucket: int) -> tuple[int, int]:
        """Smallest and largest id of a range.

        >>> Slices(1, 25, 10).span(2)
        (21, 25)
        """
        begin = self.first + bucket * self.width
        return begin, min(begin + self.width - 1, self.last)


@dataclass(frozen=True)
class Digest:
    """A row as PostgreSQL has it, in short; `refused`: the transform does not accept it."""

    high: int
    low: int
    refused: bool = False


@dataclass(frozen=True)
class Held:
    """An event as a sink has it: its newest version."""

    high: int
    low: int
    version: int
    alive: bool
    extra: int = 0
    event_us: int | None = None
    """Its event_ts, microseconds since 1970: where in the table it lies."""


class Kind(StrEnum):
    """How a sink can differ."""

    MISSING = "missing"
    """PostgreSQL has the row, the sink has no version of it."""
    STALE = "stale"
    """The sink's newest version holds other values, or is a deletion of a row that lives."""
    PHANTOM = "phantom"
    """The sink thinks an event alive that PostgreSQL does not have."""
    DOUBLED = "doubled"
    """The sink has a version more than once."""


class Side(Protocol):
    """One of the two that are compared. Raises: TransientError, EngagementError."""

    def sums(self, slices: Slices) -> Mapping[int, Sums]:
        """Bucket -> what lies in it; empty ones may be left out."""
        ...


@dataclass
class Findings:
    """What differs in one sink: kind -> ids, in order."""

    sink: str
    ids: dict[Kind, list[int]] = field(default_factory=dict)
    held: dict[int, Held] = field(default_factory=dict)
    """What the sink has of those that it has."""
    uncounted: int = 0
    """Ranges that differ and were not looked at id by id, since enough was found."""

    @property
    def rows(self) -> int:
        """How many rows differ."""
        return sum(len(ids) for ids in self.ids.values())

    def add(self, kind: Kind, event_id: int) -> None:
        """Note a difference."""
        self.ids.setdefault(kind, []).append(event_id)


def slices_of(first: int, last: int) -> Slices:
    """Ranges for a first look at ids `first` to `last`: as narrow as a leaf, but no more than BUCKETS.

    >>> slices_of(1, 4_096).width, slices_of(1, 2**40).width % 2_048
    (2048, 0)
    """
    width = LEAF_IDS
    while (last - first + 1) > width * BUCKETS:
        width *= 2
    return Slices(first, last, width)


def differing(source: Mapping[int, Sums], sink: Mapping[int, Sums]) -> list[int]:
    """Buckets in which the sides differ.

    >>> differing({0: Sums(1, 2, 3)}, {0: Sums(1, 2, 3), 4: Sums(1, 1, 1)})
    [4]
    """
    nothing = Sums()
    return sorted(b for b in source.keys() | sink.keys() if source.get(b, nothing) != sink.get(b, nothing))


def narrow(source: Side, sink: Side, slices: Slices) -> list[tuple[int, int]]:
    """Ranges of at most LEAF_IDS ids in which the sides differ, found by halving those that do."""
    wanted = _asked(source, sink, slices)
    while wanted and slices.width > LEAF_IDS:
        part = Slices(slices.span(wanted[0])[0], slices.span(wanted[-1])[1], slices.width // 2)
        halves = {2 * (bucket - wanted[0]) + half for bucket in wanted for half in (0, 1)}
        wanted = [bucket for bucket in _asked(source, sink, part) if bucket in halves]
        slices = part
    return [slices.span(bucket) for bucket in wanted]


def _asked(source: Side, sink: Side, slices: Slices) -> list[int]:
    """Buckets in which the sides differ; they are asked at the same time, since each computes by itself."""
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="reconcile") as pool:
        both = [pool.submit(side.sums, slices) for side in (source, sink)]
        return differing(*(sums.result() for sums in both))


def judge(sink: str, ids: Iterable[int], rows: Mapping[int, Digest], held: Mapping[int, Held]) -> Findings:
    """Say of each id how the sink differs; ids without a difference are left out.

    A row that the transform refuses says nothing: its last valid version stays, or there never was one.
    """
    found = Findings(sink)
    for event_id in sorted(ids):
        row, have = rows.get(event_id), held.get(event_id)
        if have is not None and have.extra:
            found.add(Kind.DOUBLED, event_id)
            found.held[event_id] = have
        kind = _kind(row, have)
        if kind is not None:
            found.add(kind, event_id)
            if have is not None:
                found.held[event_id] = have
    return found


def _kind(row: Digest | None, have: Held | None) -> Kind | None:
    if row is None:
        return Kind.PHANTOM if have is not None and have.alive else None
    if row.refused:
        return None
    if have is None:
        return Kind.MISSING
    same = have.alive and (have.high, have.low) == (row.high, row.low)
    return None if same else Kind.STALE


def settled(ids: Iterable[int], before: Mapping[int, Digest], after: Mapping[int, Digest]) -> list[int]:
    """Ids whose rows are as they were, or as absent: what changed meanwhile is too young to be judged."""
    return [event_id for event_id in ids if before.get(event_id) == after.get(event_id)]
