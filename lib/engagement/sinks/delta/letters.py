"""Dead letters into their table: the tasks' files, named by a commit once the table has no letter of theirs.

Guarantee: a letter is there once, however often and by how many writers it is added, and keeps what an operator has
noted on it. Letters are known by their place: topic, partition, offset and the stage that refused them; and by their
Kafka time, for a topic that was deleted and made again gives a place to another message, perhaps on the same day.

Why two writers cannot both add one: who adds looks up which of the places the table has, and commits as the transaction
of one application (`APP`) that follows the one it knew before the look. Of two that went on from the same one the
second fails, and looks again. Nobody else adds places: operators change letters, upkeep moves them to larger files and
removes old days.

Where a crash can fall: before the commit there are files that no table names, and vacuum removes them. After it, the
repetition finds the places and adds nothing.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from functools import partial, reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema

from engagement.retry import RetryPolicy, call_with_retry
from engagement.sinks.delta.files import FILE_FIELD, FileWriter, Folder
from engagement.sinks.delta.log import DeltaLog
from engagement.sinks.delta.tables import DEAD_LETTERS, KAFKA_DATE, LETTER_BOUNDS, LakeTable
from engagement.sinks.spark_faults import spark_translated
from engagement.small_frames import small_frame
from engagement.transform.partitions import by_partition

APP = "engagement-letters"
LETTER_FILE: pa.Schema = pa.schema(
    [field for field in to_arrow_schema(DEAD_LETTERS, timezone="UTC") if field.name != KAFKA_DATE]
)
"""DEAD_LETTERS as its files hold them: the day is in their path."""
_PLACE = ("topic", "kafka_partition", "kafka_offset", "stage")
_KAFKA_US = "kafka_us"
_KEYS = pa.schema([*((name, LETTER_FILE.field(name).type) for name in _PLACE), (_KAFKA_US, pa.int64())])
"""What a letter is known by; the time in microseconds since 1970, which know no last year."""
_WRITTEN = pa.schema([("files", pa.list_(FILE_FIELD))])
_LOOKS = RetryPolicy(attempts=8, base_seconds=0.2, cap_seconds=2.0)
"""Several sinks and backfills add letters at the same time, and of two that do, one passes."""

Files = Sequence[Mapping[str, Any]]
"""Rows of FILE_FIELD."""


class LetterWriter:
    """Writes letters (LETTER_FILE) as files of their table's folder that it does not name yet.

    Each Kafka partition has its own, so that bounds tell places: those of several would hold what lies between them.
    """

    def __init__(self, folder: Folder, at_ms: int) -> None:
        new = partial(FileWriter, folder, KAFKA_DATE, "kafka_ts", at_ms, LETTER_BOUNDS)
        self._writers: defaultdict[int, FileWriter] = defaultdict(new)

    def add(self, letters: pa.RecordBatch) -> None:
        """Take letters; they are written sooner or later. Raises: OSError."""
        for partition, pieces in by_partition([letters]):
            for piece in pieces:
                self._writers[partition].add(piece)

    def finish(self) -> None:
        """Write what waits. Raises: OSError."""
        for writer in self._writers.values():
            writer.finish()

    @property
    def files(self) -> list[Mapping[str, Any]]:
        """Rows of FILE_FIELD: what was written."""
        return [file for writer in self._writers.values() for file in writer.files]


def add_letters(
    spark: SparkSession, table: LakeTable, letters: DataFrame, at_ms: int, *, of_rows: bool = False
) -> None:
    """Add the letters (DEAD_LETTERS) that the table lacks. `at_ms`: now; `of_rows`, errors: see `add_letter_files`."""
    with spark_translated(table.sink):
        files = _written(letters, table, at_ms)
    add_letter_files(spark, table, files, of_rows=of_rows)


def add_letter_files(spark: SparkSession, table: LakeTable, files: Files, *, of_rows: bool = False) -> None:
    """Add the letters of files of LetterWriter that the table lacks; what it has keeps its status.

    `of_rows`: these are rows of PostgreSQL's table, refused at whatever time they were read, so a letter of another day
    or time is the same. Raises: TransientSinkError.
    """
    columns = _PLACE if of_rows else tuple(_KEYS.names)

    def look_and_add() -> None:
        log = DeltaLog(table)
        with spark_translated(table.sink):
            held = _held(log, files, of_rows=of_rows)
            lacking = _lacking(spark, table, files, held.select(columns)) if held.num_rows else files
        if lacking:
            log.append_next(lacking, APP, json.dumps({"letters": sum(_stats(file)["numRecords"] for file in lacking)}))

    if files:
        call_with_retry(look_and_add, _LOOKS)


def _held(log: DeltaLog, files: Files, *, of_rows: bool) -> pa.Table:
    """The letters that the table has within the bounds of any of the files. Out: _KEYS."""
    spans: dict[int, tuple[int, int]] = {}
    bounds = [_stats(file) for file in files]
    for low, high in ((bound["minValues"], bound["maxValues"]) for bound in bounds):
        first, last = spans.get(low["kafka_partition"], (low["kafka_offset"], high["kafka_offset"]))
        spans[low["kafka_partition"]] = min(first, low["kafka_offset"]), max(last, high["kafka_offset"])
    partition, offset = pc.field("kafka_partition"), pc.field("kafka_offset")
    around = [(partition == number) & (offset >= first) & (offset <= last) for number, (first, last) in spans.items()]
    near = reduce(pc.Expression.__or__, around)
    if not of_rows:
        days = pa.array([file["day"] and date.fromisoformat(file["day"]) for file in files], pa.date32())
        near &= pc.field(KAFKA_DATE).isin(days)
    held = log.read([*_PLACE, "kafka_ts"], near)
    # What Spark and delta-rs have written may differ in the zone, not in the number.
    times = held["kafka_ts"].cast(LETTER_FILE.field("kafka_ts").type).cast(pa.int64())
    held = pa.table([*(held[name] for name in _PLACE), times], names=_KEYS.names).cast(_KEYS)
    # Not within the expression: of files that delta-rs has written again, Arrow can compare no text before a cast.
    stages = pa.array([bound["minValues"]["stage"] for bound in bounds])
    return held.filter(pc.is_in(held["stage"], stages))


def _lacking(spark: SparkSession, table: LakeTable, files: Files, held: pa.Table) -> Files:
    """The same letters without those that are held, in other files; those of before are named by no commit."""
    written = [f"{table.path}/{file['path']}" for file in files]
    letters = spark.read.schema(DEAD_LETTERS).option("basePath", table.path).parquet(*written)
    letters = letters.withColumn(_KAFKA_US, F.unix_micros("kafka_ts"))
    rows = list(zip(*(column.to_pylist() for column in held.columns), strict=True))
    there = F.broadcast(small_frame(spark, held.schema, rows))
    same = reduce(Column.__and__, [letters[name].eqNullSafe(there[name]) for name in held.column_names])
    return _written(letters.join(there, on=same, how="left_anti"), table, files[0]["at_ms"])


def _written(letters: DataFrame, table: LakeTable, at_ms: int) -> Files:
    task = partial(_write, folder=Folder(table.path), at_ms=at_ms)
    rows = letters.select(*LETTER_FILE.names).mapInArrow(task, from_arrow_schema(_WRITTEN)).collect()
    return [file.asDict() for row in rows for file in row.files]


def _write(batches: Iterable[pa.RecordBatch], *, folder: Folder, at_ms: int) -> Iterator[pa.RecordBatch]:
    """One Spark task's letters into files. In: LETTER_FILE, by Spark. Raises: OSError."""
    writer = LetterWriter(folder, at_ms)
    for batch in batches:
        columns = [batch.column(field.name).cast(field.type) for field in LETTER_FILE]
        writer.add(pa.RecordBatch.from_arrays(columns, schema=LETTER_FILE))
    writer.finish()
    yield pa.RecordBatch.from_pylist([{"files": writer.files}], schema=_WRITTEN)


def _stats(file: Mapping[str, Any]) -> dict[str, Any]:
    return dict(json.loads(file["stats"]))
