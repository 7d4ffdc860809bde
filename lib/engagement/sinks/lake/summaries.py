"""What became of the messages of some ranges, counted on the executors in one look at them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from engagement.identity import OffsetRange
from engagement.schemas import Kind
from engagement.sinks.base import PartitionSummary
from engagement.sinks.delta.fence import Place

_COMMIT_STEP_MS = 100
_SNAPSHOT = "r"


@dataclass
class _Counts:
    read: int = 0
    delivered: int = 0
    dead_letters: Counter[str] = field(default_factory=Counter)
    tombstones: int = 0
    moves: int = 0
    already_delivered: int = 0
    commit_times_ms: Counter[int] = field(default_factory=Counter)


@dataclass(frozen=True)
class Findings:
    """What a look at a micro-batch's changes has found."""

    summaries: list[PartitionSummary]
    first_places: Mapping[int, Place]
    """Partition -> where in the source's log its new changes begin; partitions without any are absent."""
    last_places: Mapping[int, Place]
    """Partition -> where they end."""
    in_order: bool
    """Whether commit times and offsets rise together, as they do unless the source sends something again."""
    replays: bool
    """Whether there are dead letters that were sent again: they have no place in the source's log."""

    def may_repeat(self, places: Mapping[int, Place]) -> bool:
        """Whether some new changes may be in the table already, which has those up to `places`."""
        behind = any(places.get(p, (-1, -1)) >= first for p, first in self.first_places.items())
        return behind or self.replays or not self.in_order

    def without(self, repeats: Mapping[int, int]) -> "Findings":
        """The same, after so many changes of each partition turned out to be repeats."""
        return replace(self, summaries=[_without(s, repeats.get(s.partition, 0)) for s in self.summaries])


def look_at(changes: DataFrame, ranges: Sequence[OffsetRange], is_old: Column) -> Findings:
    """Count the outcomes of every range; `is_old` says of a row that the table has taken its offset before.

    In: CHANGES. Runs a job; the driver receives one row per partition, outcome and tenth of a second of commit time.
    """
    commit_ms = F.col("source_ts_ms") - F.pmod("source_ts_ms", F.lit(_COMMIT_STEP_MS))
    in_log = F.when(F.col("lsn").isNotNull(), F.struct(F.coalesce("commit_lsn", F.lit(0)), "lsn"))
    rows = (
        changes.where("is_version")
        .groupBy(
            "kafka_partition",
            "kind",
            "code",
            is_old.alias("is_old"),
            # Rows of a snapshot all name the place where it was taken, and no time of their own.
            F.when(F.col("op") != _SNAPSHOT, commit_ms).alias("commit_ms"),
        )
        .agg(
            F.count(F.lit(1)).alias("messages"),
            F.min("kafka_offset").alias("first_offset"),
            F.max("kafka_offset").alias("last_offset"),
            F.min(in_log).alias("first_place"),
            F.max(in_log).alias("last_place"),
            F.count("replay_of").alias("replays"),
        )
        .collect()
    )
    found: dict[int, _Counts] = {part.partition: _Counts() for part in ranges}
    for row in rows:
        _add(found.setdefault(row.kafka_partition, _Counts()), row)
    summaries = [
        PartitionSummary(partition=part.partition, start=part.start, end=part.end, **vars(found[part.partition]))
        for part in ranges
    ]
    new = [row for row in rows if not row.is_old and row.kind == Kind.CHANGE and row.commit_ms is not None]
    placed = [row for row in new if row.first_place is not None]
    return Findings(
        summaries,
        {p: min(tuple(row.first_place) for row in group) for p, group in _by_partition(placed).items()},
        {p: max(tuple(row.last_place) for row in group) for p, group in _by_partition(placed).items()},
        all(_rises(group) for group in _by_partition(new).values()),
        any(row.replays and not row.is_old for row in rows),
    )


def _add(counts: _Counts, row: Row) -> None:
    counts.read += row.messages
    kind = Kind(row.kind)
    if row.is_old:
        counts.already_delivered += row.messages
    elif kind is Kind.DEAD_LETTER:
        counts.dead_letters[row.code or "unknown"] += row.messages
    elif kind is Kind.TOMBSTONE:
        counts.tombstones += row.messages
    elif kind is Kind.MOVE:
        counts.moves += row.messages
    else:
        counts.delivered += row.messages
        if row.commit_ms is not None:
            counts.commit_times_ms[row.commit_ms] += row.messages


def _by_partition(rows: Iterable[Row]) -> dict[int, list[Row]]:
    groups: dict[int, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.kafka_partition, []).append(row)
    return groups


def _rises(rows: Iterable[Row]) -> bool:
    by_time = sorted(rows, key=lambda row: row.commit_ms)
    return all(earlier.last_offset < later.first_offset for earlier, later in pairwise(by_time))


def _without(summary: PartitionSummary, repeats: int) -> PartitionSummary:
    return replace(
        summary,
        delivered=summary.delivered - repeats,
        already_delivered=summary.already_delivered + repeats,
        repeats=repeats,
    )
