"""Frames from builders, and images from frames, for the transform's tests."""

from collections.abc import Iterable, Sequence

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F
from tests.builders import CONTENT_ROWS, KAFKA_TS, Message

from engagement import schemas


def messages(spark: SparkSession, given: Iterable[Message]) -> DataFrame:
    """Contract MESSAGES."""
    rows = [
        (None, m.value, "engagement-events", m.partition, m.offset, m.kafka_ts, [(h, b"") for h in m.headers] or None)
        for m in given
    ]
    return spark.createDataFrame(rows, schemas.MESSAGES)


def content(spark: SparkSession, given: Sequence[dict[str, object]] = CONTENT_ROWS) -> DataFrame:
    """Contract CONTENT."""
    return spark.createDataFrame([{**row, "publish_ts": KAFKA_TS} for row in given], schemas.CONTENT)


def collected(images: DataFrame) -> dict[int, list[Row]]:
    """Offset -> its rows, the version row first; event_ts also as event_ts_micros, since years beyond 9999 exist."""
    rows: dict[int, list[Row]] = {}
    narrow = images.withColumn("event_ts_micros", F.unix_micros("event_ts")).drop("event_ts", "kafka_ts", "raw_value")
    for row in narrow.collect():
        rows.setdefault(row["kafka_offset"], []).append(row)
    return rows
