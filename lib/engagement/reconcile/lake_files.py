"""The lake's side of the comparison, summed up where its files are read.

A task has a range of ids and reads every file that may hold some of them, so it sees all versions of its events and no
row travels between tasks. That pays where most files hold ids of their own, as those of inserts and backfills do. Where
tasks would read the same files again and again, or hold too much, `plan_tasks` gives none, and Spark brings an event's
versions together (sides.py).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from engagement.reconcile.compare import Slices, Sums
from engagement.schemas import DELETION
from engagement.sinks.delta.files import Folder
from engagement.transform.digest import digest_halves, micros_of

_TASK_ROWS = 250_000
"""Rows of files that begin in a task's range, about."""
_MOST_ROWS = 4_000_000
"""Rows of all files that a task reads: it holds 25 bytes of each at once."""
_MOST_READINGS = 4
"""How often the average row may be read; to skip a row of a file costs a quarter of what it costs to sum it up."""
_BATCH_ROWS = 50_000
_COLUMNS = ("event_id", "version", "op", "content_id", "user_id", "event_type", "event_ts", "duration_ms", "device")
_SUMS = pa.schema([(name, pa.int64()) for name in ("bucket", "events", "high", "low", "extra")])


@dataclass(frozen=True)
class RangeTask:
    """Ids, both ends inclusive, and the files that may hold some of them."""

    first: int
    last: int
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Reading:
    """What all tasks need to know."""

    folder: Folder
    slices: Slices
    times_us: tuple[int, int] | None
    """Event times that count, the end excluded, microseconds since 1970; None: all."""


def plan_tasks(files: pa.Table, slices: Slices) -> list[RangeTask] | None:
    """Ranges of ids that make up `slices`, with their files (columns of DeltaLog.files); None: not worth it.

    >>> files = pa.table({"path": ["a", "b"], "rows": [250_000] * 2, "first": [1, 250_001], "last": [250_000, 500_000]})
    >>> [(task.first, task.last, task.paths) for task in plan_tasks(files, Slices(1, 500_000, 2_048)) or ()]
    [(1, 250000, ('a',)), (250001, 500000, ('b',))]
    """
    if any(files[name].null_count for name in ("rows", "first", "last")):
        return None
    wanted = pc.and_(pc.less_equal(files["first"], slices.last), pc.greater_equal(files["last"], slices.first))
    near = files.filter(wanted).sort_by("first")
    paths = near["path"].to_pylist()
    rows, first, last = (near[name].to_numpy() for name in ("rows", "first", "last"))
    before = np.cumsum(rows) - rows
    begins = np.flatnonzero(np.diff(before // _TASK_ROWS)) + 1
    starts = sorted({slices.first, *(int(first[place]) for place in begins if first[place] > slices.first)})
    tasks, readings = list[RangeTask](), 0
    for start, end in zip(starts, [*(start - 1 for start in starts[1:]), slices.last], strict=True):
        held = np.flatnonzero((first <= end) & (last >= start))
        if rows[held].sum() > _MOST_ROWS:
            return None
        readings += int(rows[held].sum())
        tasks.append(RangeTask(start, end, tuple(paths[place] for place in held)))
    return tasks if readings <= _MOST_READINGS * rows.sum() else None


def sums_of_files(spark: SparkSession, tasks: Sequence[RangeTask], reading: Reading) -> Mapping[int, Sums]:
    """Sums of the newest versions that live. Shuffle: none; the driver receives a few numbers a bucket."""
    work = partial(_sum_up, tasks=tuple(tasks), reading=reading)
    numbered = spark.range(0, len(tasks), 1, len(tasks)) if tasks else spark.range(0)
    found: dict[int, Sums] = {}
    for row in numbered.mapInArrow(work, from_arrow_schema(_SUMS)).collect():
        had = found.get(row.bucket, Sums())
        found[row.bucket] = Sums(had.events + row.events, had.high + row.high, had.low + row.low, had.extra + row.extra)
    return found


def _sum_up(
    numbers: Iterable[pa.RecordBatch], *, tasks: Sequence[RangeTask], reading: Reading
) -> Iterator[pa.RecordBatch]:
    for batch in numbers:
        for number in batch.column("id").to_pylist():
            rows = [rows for path in tasks[number].paths for rows in _read(path, tasks[number], reading)]
            if rows:
                yield _sums(pa.Table.from_batches(rows), reading.slices)


def _read(path: str, task: RangeTask, reading: Reading) -> Iterator[pa.RecordBatch]:
    """A file's rows in the task's range; none of a file that is gone, which is told elsewhere."""
    file_system, root = reading.folder.opened()
    try:
        source = file_system.open_input_file(f"{root}/{unquote(path)}")
    except FileNotFoundError:
        return
    with pq.ParquetFile(source, coerce_int96_timestamp_unit="us") as file:
        columns = [name for name in _COLUMNS if name in file.schema_arrow.names]
        for read in file.iter_batches(_BATCH_ROWS, columns=columns):
            batch = _with_plain_texts(read)
            ids = batch.column("event_id")
            wanted = batch.filter(pc.and_(pc.greater_equal(ids, task.first), pc.less_equal(ids, task.last)))
            if wanted.num_rows:
                yield digested(wanted, reading.times_us)


def _with_plain_texts(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Other engines write texts as views, which Arrow itself cannot filter, or as large ones."""
    texts = (pa.types.is_string_view, pa.types.is_large_string)
    fields = [field.with_type(pa.string()) if any(of(field.type) for of in texts) else field for field in batch.schema]
    return batch.cast(pa.schema(fields))


def digested(rows: pa.RecordBatch, times_us: tuple[int, int] | None) -> pa.RecordBatch:
    """Of row versions what the sums are made of: event_id, version, high, low, and whether the version counts.

    In: some of _COLUMNS; those that an old file lacks are NULL. Spelt as `sides.with_digest` does.
    """
    known = {name: rows.column(name) for name in rows.schema.names}
    known |= {name: pa.nulls(rows.num_rows, pa.string()) for name in _COLUMNS if name not in known}
    micros = micros_of(known["event_ts"])
    halves = digest_halves({**known, "event_us": micros})
    counts = pc.not_equal(known["op"], DELETION)
    if times_us is not None:
        begin, end = times_us
        counts = pc.and_(counts, pc.and_(pc.greater_equal(micros, begin), pc.less(micros, end)).fill_null(False))
    high, low = (pa.array(halves[:, place]) for place in (0, 1))
    names = ["event_id", "version", "high", "low", "counts"]
    return pa.RecordBatch.from_arrays([known["event_id"], known["version"], high, low, counts], names)


def _sums(rows: pa.Table, slices: Slices) -> pa.RecordBatch:
    """In: what `digested` gives, all versions of each event. Out: _SUMS."""
    ids, version, high, low, counts = (column.to_numpy() for column in rows.columns)
    order = np.lexsort((version, ids))
    ids, version, counts = ids[order], version[order], counts[order]
    same = ids[1:] == ids[:-1]
    live = np.append(~same, True) & counts
    extra = np.append(False, same & (version[1:] == version[:-1]))
    buckets = (ids - slices.first) // slices.width
    begins = np.append(0, np.flatnonzero(np.diff(buckets)) + 1)
    columns = [live, np.where(live, high[order], 0), np.where(live, low[order], 0), extra]
    totals = [np.add.reduceat(column.astype(np.int64), begins) for column in columns]
    return pa.RecordBatch.from_arrays([pa.array(column) for column in (buckets[begins], *totals)], schema=_SUMS)
