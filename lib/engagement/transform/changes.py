"""The one transform as a frame: messages to changes, in one pass through Spark's Python workers.

A sink's own work on a partition runs in that same pass (`each_partition`). A pass costs a micro-batch of a few hundred
rows more than all that is done in it, and a join planned between two of them more again: see
docs/decisions/0007-one-pass-through-python.md.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Protocol

import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas.types import from_arrow_schema

from engagement.schemas import CHANGES, REPLAY_OF
from engagement.transform.content import Contents, SharedContents
from engagement.transform.decode import decode_batch
from engagement.transform.enrich import enrich_batch
from engagement.transform.json_text import RECURSION_LIMIT, JsonReader
from engagement.transform.table import decode_rows, place_refused
from engagement.workers import Workers

Task = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]
"""What a sink does with the changes (contract CHANGES) of one Spark task: whole Kafka partitions, in offset order."""

Transform = Callable[[Iterable[pa.RecordBatch], Contents], Iterator[pa.RecordBatch]]
"""`transform_batches` for messages, `transform_rows` for rows of the table, or one that reads too; out come CHANGES."""


def narrow_messages(messages: DataFrame) -> DataFrame:
    """What the transform reads of messages, and nothing else.

    In: MESSAGES. Out: NARROW_MESSAGES. Rows: 1 -> 1. Shuffle: none.
    """
    names, values = F.col("headers")["key"], F.col("headers")["value"]
    # Places count from 1, 0 is "absent"; `get` counts from 0 and gives NULL for what is not there.
    replayed = F.get(values, F.array_position(names, REPLAY_OF).cast("int") - 1)
    replay_of = replayed.cast("string").try_cast("long")
    columns = ("topic", "partition", "offset", "timestamp", "value")
    return messages.select(*columns, F.to_json(names).alias("header_names_json"), replay_of.alias("replay_of"))


def transform_batches(batches: Iterable[pa.RecordBatch], contents: Contents) -> Iterator[pa.RecordBatch]:
    """Decode, validate, enrich.

    In: NARROW_MESSAGES. Out: CHANGES. Rows: 1 -> 1, or 2 for an update whose `before` is valid. Order: kept.
    """
    sys.setrecursionlimit(max(sys.getrecursionlimit(), RECURSION_LIMIT))
    reader = JsonReader()
    for batch in batches:
        yield enrich_batch(decode_batch(reader, batch), contents)


def transform_rows(batches: Iterable[pa.RecordBatch], contents: Contents) -> Iterator[pa.RecordBatch]:
    """The same for rows that were read from the table.

    In: TABLE_ROWS. Out: CHANGES; only dead letters have a place (`place_refused`). Rows: 1 -> 1. Order: kept.
    """
    sys.setrecursionlimit(max(sys.getrecursionlimit(), RECURSION_LIMIT))
    reader = JsonReader()
    for batch in batches:
        yield place_refused(enrich_batch(decode_rows(reader, batch), contents), batch.column("id"))


class ChangeRows(Protocol):
    """Changes that a sink can take as a frame, or work on where they arise."""

    def frame(self) -> DataFrame:
        """The changes (contract CHANGES)."""
        ...

    def each_partition(self, task: Task, schema: pa.Schema) -> DataFrame:
        """What `task` makes of them, in columns of `schema`. Shuffle: none."""
        ...


@dataclass(frozen=True)
class Changes:
    """Messages that will go through the transform, joined with the catalogue as it stands now. Nothing runs yet."""

    messages: DataFrame
    """Contract NARROW_MESSAGES; TABLE_ROWS for `transform_rows`; else what the transform takes."""
    contents: SharedContents
    transform: Transform = transform_batches
    workers: Workers = Workers.FIRST

    def frame(self) -> DataFrame:
        """The changes as a frame (contract CHANGES). Shuffle: none; a task holds whole Kafka partitions.

        Hold on to the changes for as long as the frame is used: the contents go with them.
        """
        return self._run(None, CHANGES)

    def each_partition(self, task: Task, schema: pa.Schema) -> DataFrame:
        """What `task` makes of the changes, where they arise. Shuffle: none."""
        return self._run(task, _spark_schema(schema))

    def of_partitions(self, partitions: Sequence[int]) -> "Changes":
        """The changes of some Kafka partitions only."""
        return replace(self, messages=self.messages.where(F.col("partition").isin(list(partitions))))

    def in_one_task(self) -> "Changes":
        """The same, one Kafka partition after the other, for what has to see all of them. Shuffle: none."""
        return replace(self, messages=self.messages.coalesce(1))

    def _run(self, task: Task | None, schema: T.StructType) -> DataFrame:
        run = partial(_run_task, transform=self.transform, contents=self.contents.variable, task=task)
        with self.workers.chosen(self.messages.sparkSession.sparkContext):
            return self.messages.mapInArrow(run, schema)


@dataclass(frozen=True)
class FramedChanges:
    """Changes that are a frame already (contract CHANGES)."""

    changes: DataFrame

    def frame(self) -> DataFrame:
        """The frame."""
        return self.changes

    def each_partition(self, task: Task, schema: pa.Schema) -> DataFrame:
        """What `task` makes of the changes. Shuffle: none."""
        return self.changes.mapInArrow(task, _spark_schema(schema))


_spark_schema = cache(from_arrow_schema)
"""Once for each schema, not for each micro-batch."""


def _run_task(
    batches: Iterable[pa.RecordBatch], *, transform: Transform, contents: Broadcast[Contents], task: Task | None
) -> Iterator[pa.RecordBatch]:
    changes = transform(batches, contents.value)
    return changes if task is None else task(changes)
