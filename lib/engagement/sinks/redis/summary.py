"""One small row per partition and task: what the driver learns from executors."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from engagement.errors import TransientSinkError
from engagement.sinks.base import PartitionSummary
from engagement.sinks.redis.delta import Outcomes
from engagement.sinks.redis.faults import SINK, FenceBehindError, ShardLostError

_COUNTS = pa.map_(pa.string(), pa.int64())
SUMMARY_SCHEMA = pa.schema(
    [
        *((name, pa.int64()) for name in ("partition", "start", "end", "read", "delivered")),
        ("dead_letters", _COUNTS),
        *((name, pa.int64()) for name in ("truncations", "tombstones", "moves", "already_delivered")),
        *((name, pa.int64()) for name in ("repeats", "late")),
        ("commit_times_ms", pa.map_(pa.int64(), pa.int64())),
        ("unknown_content", pa.list_(pa.string())),
        *((name, pa.int64()) for name in ("snapshots", "other_database")),
        ("problem", pa.string()),
        ("problem_detail", pa.string()),
    ]
)


@dataclass(frozen=True)
class TaskSummary:
    """What a task did with one partition's range, and what stands in its way (`problem`)."""

    summary: PartitionSummary
    snapshots: int = 0
    """Snapshot rows and replays inside the window, and what came after such a replay: a matter for a rebuild."""
    other_database: int = 0
    """Messages with an older LSN but a newer commit time: raise an alarm that names `reconcile`."""
    problem: str = ""
    """"" or one of behind, lost, unavailable: the partition is not (wholly) written."""
    problem_detail: str = ""

    def raise_problem(self) -> None:
        """Raise what stands in the way. Raises: FenceBehindError, ShardLostError, TransientSinkError."""
        if self.problem == "behind":
            raise FenceBehindError(self.summary.partition, int(self.problem_detail))
        if self.problem == "lost":
            raise ShardLostError(self.summary.partition, self.problem_detail)
        if self.problem:
            raise TransientSinkError(SINK, self.problem_detail)


def describe_problem(error: TransientSinkError) -> tuple[str, str]:
    """Give a problem's name and detail, so that it survives the way from a task to the driver."""
    if isinstance(error, FenceBehindError):
        return "behind", str(error.next_offset)
    if isinstance(error, ShardLostError):
        return "lost", error.why
    return "unavailable", error.reason


def partition_summary(partition: int, start: int, end: int, outcomes: Outcomes, late: int = 0) -> PartitionSummary:
    """Give the counts in the engine's words."""
    return PartitionSummary(
        partition=partition,
        start=start,
        end=end,
        read=outcomes.read,
        delivered=outcomes.delivered,
        dead_letters=dict(outcomes.dead_letters),
        truncations=outcomes.truncations,
        tombstones=outcomes.tombstones,
        moves=outcomes.moves,
        already_delivered=outcomes.already_delivered,
        repeats=outcomes.repeats,
        late=late,
        commit_times_ms=dict(outcomes.commit_times_ms),
    )


def to_batch(task: TaskSummary) -> pa.RecordBatch:
    """Give one row of SUMMARY_SCHEMA."""
    row: dict[str, Any] = {**vars(task.summary), **vars(task)}
    row["dead_letters"] = list(task.summary.dead_letters.items())
    row["commit_times_ms"] = list(task.summary.commit_times_ms.items())
    row["unknown_content"] = sorted(task.summary.unknown_content)
    return pa.RecordBatch.from_pylist([{name: row[name] for name in SUMMARY_SCHEMA.names}], schema=SUMMARY_SCHEMA)


def from_rows(rows: Iterable[Mapping[str, Any]]) -> list[TaskSummary]:
    """Read collected rows of SUMMARY_SCHEMA (`row.asDict()` of Spark, or Arrow's to_pylist)."""
    return [_from_row(dict(row)) for row in rows]


def _from_row(row: dict[str, Any]) -> TaskSummary:
    own = {name: row.pop(name) for name in ("snapshots", "other_database", "problem", "problem_detail")}
    row["dead_letters"] = dict(row["dead_letters"])
    row["commit_times_ms"] = dict(row["commit_times_ms"])
    row["unknown_content"] = frozenset(row["unknown_content"])
    return TaskSummary(PartitionSummary(**row), **own)
