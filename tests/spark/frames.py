"""Frames from builders, and images from frames, for the transform's tests."""

import os
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F
from tests.builders import CONTENT_ROWS, KAFKA_TS, Message

from engagement import schemas
from engagement.transform.changes import Changes, narrow_messages
from engagement.transform.content import SharedContents


def messages(spark: SparkSession, given: Iterable[Message]) -> DataFrame:
    """Contract MESSAGES."""
    rows = [(None, m.value, "engagement-events", m.partition, m.offset, m.kafka_ts, _headers(m) or None) for m in given]
    # In one task, as Kafka's source hands out a partition: whole, in offset order.
    return spark.createDataFrame(rows, schemas.MESSAGES).coalesce(1)


def _headers(message: Message) -> list[tuple[str, bytes]]:
    replay = [] if message.replay_of is None else [(schemas.REPLAY_OF, str(message.replay_of).encode())]
    return [(name, b"") for name in message.headers] + replay


def changes(
    spark: SparkSession, given: Iterable[Message], content: Sequence[dict[str, object]] = CONTENT_ROWS
) -> Changes:
    """Messages through the transform, joined with some contents."""
    return of_messages(spark, messages(spark, given), content)


def of_messages(spark: SparkSession, given: DataFrame, content: Sequence[dict[str, object]] = CONTENT_ROWS) -> Changes:
    """The same of a frame of messages (contract MESSAGES)."""
    table = spark.createDataFrame([{**row, "publish_ts": KAFKA_TS} for row in content], schemas.CONTENT).toArrow()
    return Changes(narrow_messages(given), SharedContents(spark.sparkContext, table))


def count_rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """A sink's task, which workers have to find by name: how many rows each batch has."""
    yield from (pa.RecordBatch.from_pydict({"rows": [batch.num_rows]}) for batch in batches)


def own_niceness(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """A sink's task: the niceness of the process that it runs in."""
    for _ in batches:
        pass
    yield pa.RecordBatch.from_pydict({"niceness": pa.array([os.getpriority(os.PRIO_PROCESS, 0)], pa.int32())})


def collected(changes: Changes) -> dict[int, list[Row]]:
    """Offset -> its rows, the version row first; event_ts also as event_ts_micros, since years beyond 9999 exist."""
    rows: dict[int, list[Row]] = {}
    frame = changes.frame().withColumn("event_ts_micros", F.unix_micros("event_ts"))
    for row in frame.drop("event_ts", "kafka_ts", "raw_value").collect():
        rows.setdefault(row["kafka_offset"], []).append(row)
    return rows


def sizes(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Give the bytes of each batch, one row each."""
    for batch in batches:
        yield pa.RecordBatch.from_pydict({"bytes": [batch.nbytes]})
