"""One small row per partition and task: what became of its messages, and which stream holds its rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from engagement.errors import PermanentSinkError, TransientSinkError
from engagement.schemas import DeadLetterCode
from engagement.sinks.base import PartitionSummary
from engagement.sinks.bigquery.faults import SINK
from engagement.sinks.outcomes import OUTCOME_FIELDS, OutcomeCounts, to_summary
from engagement.sinks.source_log import SPAN_FIELDS, LogSpan, from_row

_REFUSED = pa.struct([("kafka_partition", pa.int64()), ("kafka_offset", pa.int64()), ("detail", pa.string())])
SUMMARY_SCHEMA = pa.schema(
    [
        *OUTCOME_FIELDS,
        *SPAN_FIELDS,
        ("stream", pa.string()),
        ("event_from_us", pa.int64()),
        ("event_to_us", pa.int64()),
        ("problem", pa.string()),
        ("is_permanent", pa.bool_()),
        ("refused", pa.list_(_REFUSED)),
    ]
)


@dataclass
class PartitionCounts(OutcomeCounts):
    """What a task counts of one partition; mutable while its batches come."""

    span: LogSpan = field(default_factory=LogSpan)
    event_from_us: int | None = None
    event_to_us: int | None = None
    refused: list[dict[str, Any]] = field(default_factory=list)
    """Rows that BigQuery did not take: their places in Kafka, and its reasons."""

    def refuse(self, versions: pa.RecordBatch, reasons: Sequence[str]) -> None:
        """Count some rows (CHANGES), delivered so far, as dead letters."""
        for change, reason in zip(versions.select(["kafka_offset", "source_ts_ms"]).to_pylist(), reasons, strict=True):
            self.refused.append(
                {"kafka_partition": self.partition, "kafka_offset": change["kafka_offset"], "detail": reason}
            )
            self.take_back(change["source_ts_ms"])
        self.dead_letters[DeadLetterCode.E_WAREHOUSE_REJECT] += versions.num_rows

    def widen(self, bounds: tuple[int | None, int | None]) -> None:
        """Take in the earliest and the latest event of some rows."""
        told = [us for us in (*bounds, self.event_from_us, self.event_to_us) if us is not None]
        if told:
            self.event_from_us, self.event_to_us = min(told), max(told)


@dataclass(frozen=True)
class TaskSummary:
    """What a task did with one partition's rows, and what stood in its way (`problem`)."""

    summary: PartitionSummary
    span: LogSpan = field(default_factory=LogSpan)
    stream: str = ""
    """The finalized stream that holds its rows; "" when there are none."""
    event_from_us: int | None = None
    event_to_us: int | None = None
    problem: str = ""
    is_permanent: bool = False
    refused: Sequence[Mapping[str, Any]] = ()
    """Rows that BigQuery did not take: kafka_partition, kafka_offset, detail."""

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
    row = (
        counts.row()
        | counts.span.row()
        | {
            "stream": stream if counts.delivered else "",
            "event_from_us": counts.event_from_us,
            "event_to_us": counts.event_to_us,
            "problem": problem.reason if problem else "",
            "is_permanent": isinstance(problem, PermanentSinkError),
            "refused": counts.refused,
        }
    )
    return pa.RecordBatch.from_pylist([row], schema=SUMMARY_SCHEMA)


def from_rows(rows: Iterable[Mapping[str, Any]]) -> list[TaskSummary]:
    """Read collected rows of SUMMARY_SCHEMA (`row.asDict()` of Spark, or Arrow's to_pylist)."""
    own = ("stream", "event_from_us", "event_to_us", "problem", "is_permanent", "refused")
    return [TaskSummary(to_summary(row), from_row(row), **{name: row[name] for name in own}) for row in rows]
