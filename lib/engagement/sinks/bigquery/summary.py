"""One small row per partition and task: what became of its messages, and which stream holds its rows."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engagement.errors import PermanentSinkError, TransientSinkError
from engagement.identity import OffsetRange
from engagement.schemas import Kind
from engagement.sinks.base import PartitionSummary
from engagement.sinks.bigquery.faults import SINK

COMMIT_STEP_MS = 100
_SNAPSHOT = "r"
_COUNTS = pa.map_(pa.string(), pa.int64())
SUMMARY_SCHEMA = pa.schema(
    [
        *((name, pa.int64()) for name in ("partition", "read", "delivered", "tombstones", "moves")),
        ("already_delivered", pa.int64()),
        ("dead_letters", _COUNTS),
        ("commit_times_ms", pa.map_(pa.int64(), pa.int64())),
        ("stream", pa.string()),
        ("event_from_us", pa.int64()),
        ("event_to_us", pa.int64()),
        ("problem", pa.string()),
        ("is_permanent", pa.bool_()),
    ]
)
SUMMARY_DDL = (
    "partition BIGINT, read BIGINT, delivered BIGINT, tombstones BIGINT, moves BIGINT, already_delivered BIGINT, "
    "dead_letters MAP<STRING,BIGINT>, commit_times_ms MAP<BIGINT,BIGINT>, stream STRING, event_from_us BIGINT, "
    "event_to_us BIGINT, problem STRING, is_permanent BOOLEAN"
)
"""SUMMARY_SCHEMA in Spark's words."""


@dataclass
class PartitionCounts:
    """Counts one partition's messages by outcome; mutable while its batches come."""

    partition: int
    read: int = 0
    delivered: int = 0
    tombstones: int = 0
    moves: int = 0
    already_delivered: int = 0
    dead_letters: Counter[str] = field(default_factory=Counter)
    commit_times_ms: Counter[int] = field(default_factory=Counter)
    event_from_us: int | None = None
    event_to_us: int | None = None

    def add(self, changes: pa.RecordBatch, following: int) -> None:
        """Count a batch (contract CHANGES); what lies below `following` was delivered before."""
        columns = {name: changes.column(name) for name in ("kind", "code", "op")}
        ts = changes.column("source_ts_ms")
        columns["old"] = pc.less(changes.column("kafka_offset"), following)
        columns["commit_ms"] = pc.multiply(pc.floor(pc.divide(ts.cast(pa.float64()), COMMIT_STEP_MS)), COMMIT_STEP_MS)
        messages = pa.table(columns).filter(changes.column("is_version"))
        grouped = messages.group_by([*columns], use_threads=False).aggregate([([], "count_all")])
        for group in grouped.to_pylist():
            self._add(group, group["count_all"])

    def widen(self, bounds: tuple[int | None, int | None]) -> None:
        """Take in the earliest and the latest event of some rows."""
        told = [us for us in (*bounds, self.event_from_us, self.event_to_us) if us is not None]
        if told:
            self.event_from_us, self.event_to_us = min(told), max(told)

    def _add(self, group: Mapping[str, Any], count: int) -> None:
        kind = Kind(group["kind"])
        self.read += count
        if group["old"]:
            self.already_delivered += count
        elif kind is Kind.DEAD_LETTER:
            self.dead_letters[group["code"] or "unknown"] += count
        elif kind is Kind.TOMBSTONE:
            self.tombstones += count
        elif kind is Kind.MOVE:
            self.moves += count
        else:
            self.delivered += count
            if group["commit_ms"] is not None and group["op"] != _SNAPSHOT:
                self.commit_times_ms[int(group["commit_ms"])] += count


@dataclass(frozen=True)
class TaskSummary:
    """What a task did with one partition's rows, and what stood in its way (`problem`)."""

    summary: PartitionSummary
    stream: str = ""
    """The finalized stream that holds its rows; "" when there are none."""
    event_from_us: int | None = None
    event_to_us: int | None = None
    problem: str = ""
    is_permanent: bool = False

    def raise_problem(self) -> None:
        """Raise what stood in the way. Raises: TransientSinkError, PermanentSinkError."""
        if self.problem and self.is_permanent:
            raise PermanentSinkError(SINK, self.problem)
        if self.problem:
            raise TransientSinkError(SINK, self.problem)


def to_batch(
    counts: PartitionCounts, stream: str, problem: TransientSinkError | PermanentSinkError | None
) -> pa.RecordBatch:
    """Give one row of SUMMARY_SCHEMA."""
    row: dict[str, Any] = {**vars(counts), "stream": stream if counts.delivered else ""}
    row["dead_letters"] = list(counts.dead_letters.items())
    row["commit_times_ms"] = list(counts.commit_times_ms.items())
    row["problem"] = problem.reason if problem else ""
    row["is_permanent"] = isinstance(problem, PermanentSinkError)
    return pa.RecordBatch.from_pylist([{name: row[name] for name in SUMMARY_SCHEMA.names}], schema=SUMMARY_SCHEMA)


def from_rows(rows: Iterable[Mapping[str, Any]]) -> list[TaskSummary]:
    """Read collected rows of SUMMARY_DDL (`row.asDict()` of Spark, or Arrow's to_pylist)."""
    return [_from_row(dict(row)) for row in rows]


def _from_row(row: dict[str, Any]) -> TaskSummary:
    own = {name: row.pop(name) for name in ("stream", "event_from_us", "event_to_us", "problem", "is_permanent")}
    row["dead_letters"] = dict(row["dead_letters"])
    row["commit_times_ms"] = dict(row["commit_times_ms"])
    return TaskSummary(PartitionSummary(start=0, end=0, **row), **own)


def sum_up(parts: Sequence[PartitionSummary], part: OffsetRange) -> PartitionSummary:
    """One range's outcomes, of however many tasks had a share in it."""
    letters, commits = Counter[str](), Counter[int]()
    for each in parts:
        letters.update(each.dead_letters)
        commits.update(each.commit_times_ms)
    return PartitionSummary(
        partition=part.partition,
        start=part.start,
        end=part.end,
        read=sum(each.read for each in parts),
        delivered=sum(each.delivered for each in parts),
        dead_letters=dict(letters),
        tombstones=sum(each.tombstones for each in parts),
        moves=sum(each.moves for each in parts),
        already_delivered=sum(each.already_delivered for each in parts),
        commit_times_ms=dict(commits),
    )
