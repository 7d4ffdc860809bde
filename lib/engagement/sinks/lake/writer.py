"""What runs inside a Spark task: the rows of whole Kafka partitions into Parquet files.

Guarantee: a task makes nothing visible. Its files have names of their own and belong to no table before the driver's
commit names them; those of attempts that died, or that Spark ran beside another, are never read, and vacuum removes
them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engagement.identity import Fence
from engagement.sinks.base import PartitionSummary
from engagement.sinks.delta.files import FILE_FIELD, FileWriter, Folder
from engagement.sinks.delta.letters import LetterWriter
from engagement.sinks.lake.letters import to_letters
from engagement.sinks.lake.tables import EVENT_DATE, EVENT_FILE, to_file_rows
from engagement.sinks.outcomes import OUTCOME_FIELDS, OutcomeCounts, row_versions, to_summary
from engagement.sinks.source_log import SPAN_FIELDS, LogSpan, from_row
from engagement.transform.changes import Task
from engagement.transform.partitions import by_partition

REPORT = pa.schema([*OUTCOME_FIELDS, *SPAN_FIELDS, ("files", pa.list_(FILE_FIELD)), ("letters", pa.list_(FILE_FIELD))])
"""What a task answers: a row per partition; the first of them names the files of all."""


@dataclass(frozen=True)
class WritePlan:
    """What a task needs to know."""

    events: Folder
    dead_letters: Folder
    fence: Fence
    """partition -> the next offset to take; rows below it are in the table."""
    processed_us: int
    """Time of processing, the same for the whole micro-batch."""
    batch_id: str

    def writer(self) -> FileWriter:
        """What a task writes its rows with."""
        return FileWriter(self.events, EVENT_DATE, "event_ts", self.processed_us // 1000)

    def letter_writer(self) -> LetterWriter:
        """What a task writes refused messages with."""
        return LetterWriter(self.dead_letters, self.processed_us // 1000)


@dataclass(frozen=True)
class TaskReport:
    """What a task did with one partition's rows."""

    summary: PartitionSummary
    span: LogSpan = field(default_factory=LogSpan)
    files: Sequence[Mapping[str, Any]] = ()
    """Rows of FILE_FIELD."""
    letters: Sequence[Mapping[str, Any]] = ()
    """Rows of FILE_FIELD: refused messages."""


def make_task(plan: WritePlan) -> Task:
    """Give the work of one Spark task: changes in, rows of REPORT out."""
    return partial(write_partitions, plan=plan)


def write_partitions(batches: Iterable[pa.RecordBatch], *, plan: WritePlan) -> Iterator[pa.RecordBatch]:
    """Write what comes; nothing when nothing comes. Raises: OSError."""
    writer, letters = plan.writer(), plan.letter_writer()
    counted = dict[int, tuple[OutcomeCounts, LogSpan]]()
    for partition, changes in by_partition(batches):
        counts, span = counted.setdefault(partition, (OutcomeCounts(partition), LogSpan()))
        following = plan.fence.get(partition, 0)
        for batch in changes:
            counts.add(batch, following)
            versions = row_versions(batch, following)
            span.add(versions)
            writer.add(to_file_rows(versions, plan.processed_us))
            letters.add(to_letters(batch, following, plan.batch_id))
    writer.finish()
    letters.finish()
    rows = [{**counts.row(), **span.row(), "files": [], "letters": []} for counts, span in counted.values()]
    if rows:
        rows[0] |= {"files": writer.files, "letters": letters.files}
        yield pa.RecordBatch.from_pylist(rows, schema=REPORT)


def write_again(batches: Iterable[pa.RecordBatch], *, plan: WritePlan) -> Iterator[pa.RecordBatch]:
    """Write rows of EVENTS, in any order; only `delivered` and `files` of the answer mean anything. Raises: OSError."""
    writer, counted = plan.writer(), dict[int, OutcomeCounts]()
    for batch in batches:
        for entry in pc.value_counts(batch.column("kafka_partition")).to_pylist():
            counted.setdefault(entry["values"], OutcomeCounts(entry["values"])).delivered += entry["counts"]
        writer.add(
            pa.RecordBatch.from_arrays([batch.column(f.name).cast(f.type) for f in EVENT_FILE], schema=EVENT_FILE)
        )
    writer.finish()
    rows = [{**counts.row(), **LogSpan().row(), "files": [], "letters": []} for counts in counted.values()]
    if rows:
        rows[0]["files"] = writer.files
        yield pa.RecordBatch.from_pylist(rows, schema=REPORT)


def read_reports(rows: Iterable[Mapping[str, Any]]) -> list[TaskReport]:
    """Read collected rows of REPORT (`row.asDict(recursive=True)` of Spark, or Arrow's to_pylist)."""
    return [TaskReport(to_summary(row), from_row(row), row["files"], row["letters"]) for row in rows]
