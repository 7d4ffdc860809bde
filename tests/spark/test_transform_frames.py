"""Shape and plan of the transform: schemas, one outcome per message, one decode, no shuffle, order kept."""

from datetime import datetime
from itertools import count

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T
from tests.builders import CONTENT_ID, Message, created, envelope, message, row, updated
from tests.spark import frames

from engagement import schemas
from engagement.sources.content import ContentCatalogue, JdbcAddress
from engagement.transform.decode import decode_messages
from engagement.transform.enrich import Enricher, dead_letters, enrich_changes, enriched_events

pytestmark = pytest.mark.spark

_MIXED = (
    created(),
    updated(duration_ms=-1),
    Message(None),
    Message(b"\xff"),
    message(envelope("d", before=row()), headers=("__debezium.newkey",)),
    updated(duration_ms=5),
)


def _mixed(spark: SparkSession) -> DataFrame:
    given = [Message(m.value, offset=offset, headers=m.headers) for offset, m in enumerate(_MIXED)]
    return decode_messages(frames.messages(spark, given))


def _columns(frame: DataFrame) -> list[tuple[str, str]]:
    return [(field.name, field.dataType.simpleString()) for field in frame.schema]


def _contract(schema: T.StructType) -> list[tuple[str, str]]:
    return [(field.name, field.dataType.simpleString()) for field in schema]


def _physical_plan(frame: DataFrame) -> str:
    return str(frame._jdf.queryExecution().executedPlan().toString())


def test_every_frame_has_the_columns_of_its_contract(spark: SparkSession) -> None:
    images = _mixed(spark)
    changes = enrich_changes(images, frames.content(spark))
    assert _columns(images) == _contract(schemas.IMAGES)
    assert _columns(changes) == _contract(schemas.CHANGES)
    assert _columns(enriched_events(changes, F.current_timestamp())) == _contract(schemas.ENRICHED_EVENT)
    assert _columns(dead_letters(changes)) == _contract(schemas.DEAD_LETTER)


def test_the_plan_decodes_once_broadcasts_once_and_does_not_shuffle(spark: SparkSession) -> None:
    changes = Enricher()(_mixed(spark), frames.content(spark))
    kept = changes.where((F.col("kind") == "change") & (F.col("content_id") == CONTENT_ID) & (F.col("effect") == 1))
    for frame in (changes, kept, enriched_events(changes, F.current_timestamp()), dead_letters(changes)):
        plan = _physical_plan(frame)
        assert plan.count("MapInArrow ") == 1
        assert plan.count("BroadcastHashJoin") == 1
        assert plan.count("Exchange") == plan.count("BroadcastExchange") == 1


def test_an_enricher_serves_many_micro_batches(spark: SparkSession) -> None:
    enricher, content = Enricher(), frames.content(spark)
    assert [enricher(_mixed(spark), content).count() for _ in range(2)] == [8, 8]


def test_every_message_has_exactly_one_version_row(spark: SparkSession) -> None:
    versions = [r for r in _mixed(spark).collect() if r["is_version"]]
    kinds = ["change", "dead_letter", "tombstone", "dead_letter", "move", "change"]
    assert [(r["kafka_offset"], r["kind"]) for r in versions] == list(enumerate(kinds))


def test_events_are_the_row_versions_and_dead_letters_keep_their_bytes(spark: SparkSession) -> None:
    changes = enrich_changes(_mixed(spark), frames.content(spark))
    processed = datetime(2026, 11, 23, 15, 0, 1)  # noqa: DTZ001  Spark gives UTC times back without a zone
    events = enriched_events(changes, F.lit(processed)).collect()
    assert [(r["kafka_offset"], r["processed_ts"]) for r in events] == [(0, processed), (5, processed)]
    refused = dead_letters(changes).collect()
    assert [(r["kafka_offset"], r["stage"], r["code"]) for r in refused] == [
        (1, "decode", "E_RANGE_DURATION"),
        (3, "decode", "E_UTF8"),
    ]
    assert [bytes(r["raw_value"]) for r in refused] == [_MIXED[1].value, b"\xff"]


def test_rows_of_a_partition_stay_in_offset_order(spark: SparkSession) -> None:
    given = [Message(updated(id=n + 1).value, offset=n) for n in range(500)]
    changes = enrich_changes(decode_messages(frames.messages(spark, given).coalesce(1)), frames.content(spark))
    found = [(r["kafka_offset"], r["is_version"]) for r in changes.select("kafka_offset", "is_version").collect()]
    assert found == [(n, is_version) for n in range(500) for is_version in (True, False)]


def test_rows_without_a_kafka_position_are_backfill_rows_of_version_0(spark: SparkSession) -> None:
    flat = frames.messages(spark, [message(row())]).withColumn("offset", F.lit(None).cast("bigint"))
    found = decode_messages(flat).select("kind", "op", "version", "kafka_offset", "event_id").collect()
    assert [tuple(r) for r in found] == [("change", "r", 0, None, 1)]


def test_equal_snapshots_of_the_catalogue_are_cached_each_by_itself(spark: SparkSession) -> None:
    catalogue = ContentCatalogue(spark, JdbcAddress("jdbc:none", {}), "", count(1.5).__next__)
    table = frames.content(spark).toArrow()
    first, second = catalogue.snapshot(table), catalogue.snapshot(table)
    first.release()
    assert "InMemoryTableScan" in _physical_plan(second.frame)
    assert "InMemoryTableScan" not in _physical_plan(first.frame.select("content_id"))
    second.release()
