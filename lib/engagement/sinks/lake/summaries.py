"""What became of the messages of some ranges, counted on the executors."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from engagement.identity import OffsetRange
from engagement.schemas import Kind
from engagement.sinks.base import PartitionSummary

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


def summarize(changes: DataFrame, ranges: Sequence[OffsetRange], is_old: Column) -> list[PartitionSummary]:
    """Count the outcomes of every range; `is_old` says of a row that the table has taken its offset before.

    In: CHANGES. Runs a job; the driver receives one row per partition, outcome and tenth of a second of commit time.
    """
    commit_ms = F.col("source_ts_ms") - F.pmod("source_ts_ms", F.lit(_COMMIT_STEP_MS))
    counted = (
        changes.where("is_version")
        .groupBy(
            "kafka_partition",
            "kind",
            "code",
            is_old.alias("is_old"),
            F.when(F.col("op") != _SNAPSHOT, commit_ms).alias("commit_ms"),
        )
        .count()
    )
    found: dict[int, _Counts] = {part.partition: _Counts() for part in ranges}
    for partition, kind, code, old, commit, count in counted.collect():
        _add(found.setdefault(partition, _Counts()), Kind(kind), code, commit, count, old=old)
    return [
        PartitionSummary(partition=part.partition, start=part.start, end=part.end, **vars(found[part.partition]))
        for part in ranges
    ]


def _add(counts: _Counts, kind: Kind, code: str | None, commit_ms: int | None, count: int, *, old: bool) -> None:
    counts.read += count
    if old:
        counts.already_delivered += count
    elif kind is Kind.DEAD_LETTER:
        counts.dead_letters[code or "unknown"] += count
    elif kind is Kind.TOMBSTONE:
        counts.tombstones += count
    elif kind is Kind.MOVE:
        counts.moves += count
    else:
        counts.delivered += count
        if commit_ms is not None:
            counts.commit_times_ms[commit_ms] += count
