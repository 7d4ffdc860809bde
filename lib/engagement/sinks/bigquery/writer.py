"""What runs inside a Spark task: the rows of whole Kafka partitions into one pending stream.

Guarantee: a task makes nothing visible. Each attempt has a stream of its own, and only the streams that the summaries
name are committed; those of attempts that died, or that Spark ran beside another, are never seen and expire. Problems
travel in the summary row, since an exception would lose its type between task and driver.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from engagement.errors import PermanentSinkError, TransientSinkError
from engagement.identity import Fence
from engagement.sinks.bigquery.client import WarehouseOptions
from engagement.sinks.bigquery.repeats import RepeatFilter, versions_there
from engagement.sinks.bigquery.rest import Rest
from engagement.sinks.bigquery.rows import time_bounds, to_rows
from engagement.sinks.bigquery.stream import PendingStream
from engagement.sinks.bigquery.summary import PartitionCounts, to_batch
from engagement.sinks.outcomes import check_range, row_versions
from engagement.transform.changes import Task
from engagement.transform.partitions import by_partition


@dataclass(frozen=True)
class WritePlan:
    """Which rows a task writes."""

    ranges: Mapping[int, tuple[int, int]]
    """partition -> (first offset, one past the last)."""
    fence: Fence
    """partition -> the next offset to take; rows below it are in the table."""
    processed_us: int
    """Time of processing, the same for the whole micro-batch."""
    versions_there: str = ""
    """The statement that asks for versions that the table holds; empty: the rows are new by their place in the log."""


def make_task(plan: WritePlan, options: WarehouseOptions) -> Task:
    """Give the work of one Spark task: changes in, rows of SUMMARY_SCHEMA out."""
    return partial(write_partitions, plan=plan, options=options)


def write_partitions(
    batches: Iterable[pa.RecordBatch], *, plan: WritePlan, options: WarehouseOptions
) -> Iterator[pa.RecordBatch]:
    """Write what comes, one summary row per partition; nothing when nothing comes."""
    stream, counted = PendingStream(options), dict[int, PartitionCounts]()
    problem: TransientSinkError | PermanentSinkError | None = None
    repeats = _repeat_filter(plan, options)
    try:
        for partition, changes in by_partition(batches):
            counts = counted.setdefault(partition, PartitionCounts(partition))
            for batch in changes:
                _write(batch, counts, stream, plan, repeats)
        stream.finish()
    except (TransientSinkError, PermanentSinkError) as error:
        problem = error
    for counts in counted.values():
        yield to_batch(counts, stream.name, problem)


def _repeat_filter(plan: WritePlan, options: WarehouseOptions) -> RepeatFilter | None:
    if not plan.versions_there:
        return None
    rest = Rest(options)
    return RepeatFilter(lambda rows: versions_there(rest, plan.versions_there, rows, time_bounds(rows)))


def _write(
    changes: pa.RecordBatch,
    counts: PartitionCounts,
    stream: PendingStream,
    plan: WritePlan,
    repeats: RepeatFilter | None,
) -> None:
    check_range(changes, counts.partition, plan.ranges)
    following = plan.fence.get(counts.partition, 0)
    counts.add(changes, following)
    versions = row_versions(changes, following)
    counts.span.add(versions)
    rows = to_rows(versions, plan.processed_us)
    if repeats and rows.num_rows:
        fresh, again = (pa.array(numbers, pa.int64()) for numbers in repeats.split(rows))
        counts.repeat(versions.take(again))
        versions, rows = versions.take(fresh), rows.take(fresh)
    if rows.num_rows:
        counts.widen(time_bounds(rows))
        refused = stream.append(rows)
        if refused:
            counts.refuse(versions.take(pa.array(list(refused), pa.int64())), list(refused.values()))
