"""The table of deliveries: what became of every row version, and up to where (the fence, in its commits)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from engagement.schemas import NARROW_MESSAGES, ROW_COLUMNS, TABLE_TOPIC, DeadLetterCode
from engagement.sinks.delta.fence import DeltaFence
from engagement.sinks.delta.files import EVENT_BOUNDS, FileWriter, Folder, bounds_property
from engagement.sinks.delta.refused import refused_letters
from engagement.sinks.delta.tables import FENCED, LakeTable
from engagement.sinks.external.lane import Outcome
from engagement.sinks.external.options import SINK
from engagement.sinks.held import is_version

DELIVERY_DATE = "delivery_date"
NO_TOPIC = ""
"""In place of a topic's id: a backfill sent it."""
_TEXT, _LONG, _INT, _TIME = T.StringType(), T.LongType(), T.IntegerType(), T.TimestampType()
_IN_FILES = T.StructType(
    [
        T.StructField("topic", _TEXT),
        T.StructField("topic_id", _TEXT),  # another one when the topic was deleted and made again; NO_TOPIC
        T.StructField("kafka_partition", _INT),
        T.StructField("kafka_offset", _LONG),  # of what a backfill sent: the event_id
        T.StructField("event_id", _LONG),
        T.StructField("version", _LONG),
        T.StructField("op", _TEXT),
        T.StructField("key", _TEXT),  # idempotency key of the version
        T.StructField("status", _TEXT),  # delivered, rejected
        T.StructField("attempts", _INT),  # requests that carried it, in the round that brought its outcome
        T.StructField("http_status", _INT),  # of the request, or of its own result within a batch
        T.StructField("request_key", _TEXT),  # idempotency key of the request that brought the outcome
        T.StructField("batch_id", _TEXT),  # BatchIdentity of the micro-batch, or the name of a backfill's chunk
        T.StructField("commit_ts", _TIME),  # in the source; NULL where it told none
        T.StructField("first_ts", _TIME),  # when it was sent first, in that round
        T.StructField("last_ts", _TIME),  # when the outcome came
        T.StructField("event_ts", _TIME),  # what `reconcile` compares; NULL in rows of earlier releases
        T.StructField("digest_high", _LONG),  # halves of the row's digest: see transform/digest.py
        T.StructField("digest_low", _LONG),
    ]
)
DELIVERIES = T.StructType([*_IN_FILES, T.StructField(DELIVERY_DATE, T.DateType())])
"""`deliveries`: one row per row version, and its partition, the UTC day of last_ts."""
DELIVERY_FILE: pa.Schema = to_arrow_schema(_IN_FILES, timezone="UTC")
_FREQUENT_COMMITS = (
    # A commit every few seconds: the log is looked through at each of them, so it has to stay short.
    ("delta.logRetentionDuration", "interval 1 hours"),
    ("delta.deletedFileRetentionDuration", "interval 1 hours"),
    ("delta.checkpointInterval", "50"),
    # Tables of earlier releases have it, and it would keep old days for ever: rows come by `DeltaLog.append` alone.
    ("delta.appendOnly", "false"),
)


def deliveries_table(lake: str) -> LakeTable:
    """The table in a lake."""
    properties = (*FENCED, bounds_property(EVENT_BOUNDS), *_FREQUENT_COMMITS)
    return LakeTable(SINK, f"{lake}/deliveries", DELIVERIES, DELIVERY_DATE, properties)


def new_files(address: str, at_ms: int) -> FileWriter:
    """What writes outcomes (DELIVERY_FILE) as files of the table at an address."""
    return FileWriter(Folder(address), DELIVERY_DATE, "last_ts", at_ms)


def to_rows(outcomes: Sequence[Outcome], topic: str, topic_id: str, batch_id: str) -> pa.RecordBatch:
    """Outcomes as the table's files hold them (DELIVERY_FILE)."""
    rows = [
        {
            "topic": topic,
            "topic_id": topic_id,
            "kafka_partition": outcome.version.partition,
            "kafka_offset": outcome.version.offset,
            "event_id": outcome.version.event_id,
            "version": outcome.version.version,
            "op": outcome.version.op,
            "key": outcome.version.key,
            "status": str(outcome.status),
            "attempts": outcome.attempts,
            "http_status": outcome.http_status,
            "request_key": outcome.request_key,
            "batch_id": batch_id,
            "commit_ts": None if outcome.version.commit_ms is None else outcome.version.commit_ms * 1000,
            "first_ts": outcome.first_us,
            "last_ts": outcome.last_us,
            "event_ts": outcome.version.event_us,
            "digest_high": outcome.version.digest[0],
            "digest_low": outcome.version.digest[1],
        }
        for outcome in outcomes
    ]
    return pa.RecordBatch.from_pylist(rows, schema=DELIVERY_FILE)


def table_messages(changes: DataFrame, at: datetime) -> DataFrame:
    """Row versions as the flat messages that they would be, each at its event's place. Rows: 1 -> 0 or 1.

    In: CHANGES. Out: NARROW_MESSAGES, one an event. Shuffle: by event.
    """
    versions = changes.where(is_version()).dropDuplicates(["event_id"])
    times = F.date_format("event_ts", "yyyy-MM-dd'T'HH:mm:ss.SSSSSS'Z'").alias("event_ts")
    row = [F.col("event_id").alias("id"), *(times if name == "event_ts" else F.col(name) for name in ROW_COLUMNS[1:])]
    columns = {
        "topic": F.lit(TABLE_TOPIC),
        "partition": F.lit(0),
        "offset": F.col("event_id"),
        "timestamp": F.lit(at),
        "value": F.to_json(F.struct(*row), {"ignoreNullFields": "false"}),
        "header_names_json": F.lit(None),
        "replay_of": F.lit(None),
    }
    return versions.select(*(columns[field.name].cast(field.dataType).alias(field.name) for field in NARROW_MESSAGES))


def rejected_letters(messages: DataFrame, rejected: Sequence[Mapping[str, Any]], batch_id: str) -> DataFrame:
    """Dead letters of refused events. In: NARROW_MESSAGES; rows of outcomes.REJECTED_FIELD. Out: DEAD_LETTERS."""
    refused = [
        (row["kafka_partition"], row["kafka_offset"], f"the receiver answered {row['http_status']}", row["attempts"])
        for row in rejected
    ]
    return refused_letters(messages, refused, SINK, DeadLetterCode.E_HTTP_REJECT, batch_id)


def islands(spark: SparkSession, table: LakeTable, fence: DeltaFence) -> dict[int, pa.Array]:
    """Offsets at or beyond the fence that have an outcome, by partition: what a round that ended early has left."""
    rows = table.read(spark).where(F.col("topic_id") == fence.topic_id)
    partition, offset = F.col("kafka_partition"), F.col("kafka_offset")
    below = [(partition == number) & (offset < following) for number, following in fence.next_offsets.items()]
    beyond = rows.where(~reduce(Column.__or__, below, F.lit(False))).select("kafka_partition", "kafka_offset").toArrow()
    numbers = pc.unique(beyond["kafka_partition"]).to_pylist()
    found = {number: beyond.filter(pc.equal(beyond["kafka_partition"], number)) for number in numbers}
    return {number: table["kafka_offset"].combine_chunks() for number, table in found.items()}
