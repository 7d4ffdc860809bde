"""Shape and plan of the transform: schemas, one outcome per message, one decode, no shuffle, order kept."""

import gc
import os
import socket
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T
from tests.builders import (
    CONTENT_ID,
    CONTENT_ROWS,
    KAFKA_TS,
    MIXED,
    Message,
    created,
    envelope,
    in_order,
    message,
    row,
    updated,
)
from tests.spark import frames

from engagement import schemas
from engagement.transform.changes import Changes
from engagement.workers import Workers

pytestmark = pytest.mark.spark

ROWS = pa.schema([("rows", pa.int64())])


def _mixed(spark: SparkSession) -> Changes:
    return frames.changes(spark, in_order(MIXED[:-1]))


def _columns(frame: DataFrame) -> list[tuple[str, str]]:
    return [(field.name, field.dataType.simpleString()) for field in frame.schema]


def _contract(schema: T.StructType) -> list[tuple[str, str]]:
    return [(field.name, field.dataType.simpleString()) for field in schema]


def _physical_plan(frame: DataFrame) -> str:
    return str(frame._jdf.queryExecution().executedPlan().toString())


def test_every_frame_has_the_columns_of_its_contract(spark: SparkSession) -> None:
    mixed = _mixed(spark)
    changes = mixed.frame()
    assert _columns(mixed.messages) == _contract(schemas.NARROW_MESSAGES)
    assert _columns(changes) == _contract(schemas.CHANGES)


def test_the_plan_goes_through_python_once_and_neither_joins_nor_shuffles(spark: SparkSession) -> None:
    mixed = _mixed(spark)
    changes = mixed.frame()
    kept = changes.where((F.col("kind") == "change") & (F.col("content_id") == CONTENT_ID) & (F.col("effect") == 1))
    written = mixed.each_partition(frames.count_rows, ROWS)
    for frame in (changes, kept, written):
        plan = _physical_plan(frame)
        assert plan.count("MapInArrow ") == 1
        assert "Join" not in plan
        assert "Exchange" not in plan


def test_a_sinks_task_sees_what_the_frame_holds(spark: SparkSession) -> None:
    mixed = _mixed(spark)
    counted = mixed.each_partition(frames.count_rows, ROWS).collect()
    assert sum(r["rows"] for r in counted) == mixed.frame().count()


def test_a_sinks_task_answers_in_the_columns_of_its_schema(spark: SparkSession) -> None:
    place = pa.struct([("partition", pa.int32()), ("offset", pa.int64())])
    kinds = [pa.string(), pa.bool_(), pa.float64(), pa.map_(pa.string(), pa.int64()), pa.list_(place)]
    schema = pa.schema([(f"c{number}", kind) for number, kind in enumerate(kinds)])
    places = "ARRAY<STRUCT<partition: INT, offset: BIGINT>>"
    expected = T.StructType.fromDDL(f"c0 STRING, c1 BOOLEAN, c2 DOUBLE, c3 MAP<STRING, BIGINT>, c4 {places}")
    assert _mixed(spark).each_partition(frames.count_rows, schema).schema == expected


def test_changes_of_some_partitions_leave_the_others_out(spark: SparkSession) -> None:
    some = frames.changes(spark, [Message(created().value, partition=n, offset=n) for n in range(4)])
    chosen = some.of_partitions([1, 3])
    assert sorted(r["kafka_partition"] for r in chosen.frame().collect()) == [1, 3]


def test_every_message_has_exactly_one_version_row(spark: SparkSession) -> None:
    mixed = _mixed(spark)
    versions = [r for r in mixed.frame().collect() if r["is_version"]]
    kinds = ["change", "dead_letter", "tombstone", "dead_letter", "move", "change"]
    assert [(r["kafka_offset"], r["kind"]) for r in versions] == list(enumerate(kinds))


def test_refused_messages_keep_their_bytes(spark: SparkSession) -> None:
    mixed = _mixed(spark)
    refused = [r for r in mixed.frame().collect() if r["kind"] == "dead_letter"]
    assert [(r["kafka_offset"], r["code"]) for r in refused] == [(1, "E_RANGE_DURATION"), (3, "E_UTF8")]
    assert [bytes(r["raw_value"]) for r in refused] == [MIXED[1].value, b"\xff"]


def test_a_replay_names_its_letter_and_a_letter_keeps_its_headers(spark: SparkSession) -> None:
    refused = message(envelope("d", before=row(id=0)), offset=1, headers=("__debezium.newkey",))
    given = [Message(created().value, offset=8, replay_of=7), refused, created()]
    changes = frames.changes(spark, given)
    found = changes.frame().orderBy("kafka_offset")
    assert [r["replay_of"] for r in found.collect()] == [None, None, 7]
    letters = changes.frame().where("kind = 'dead_letter'")
    assert [r["header_names"] for r in letters.collect()] == [["__debezium.newkey"]]


@pytest.mark.parametrize("value", [b"", b"a", b"1.5", b"99999999999999999999", None])
def test_a_header_that_is_no_offset_makes_no_replay(spark: SparkSession, value: bytes | None) -> None:
    rows = [(None, created().value, "events", 0, 0, KAFKA_TS, [(schemas.REPLAY_OF, value)])]
    changes = frames.of_messages(spark, spark.createDataFrame(rows, schemas.MESSAGES))
    (found,) = changes.frame().collect()
    assert (found["kind"], found["replay_of"]) == ("change", None)


def test_rows_of_a_partition_stay_in_offset_order(spark: SparkSession) -> None:
    given = frames.messages(spark, [Message(updated(id=n + 1).value, offset=n) for n in range(500)])
    changes = frames.of_messages(spark, given.coalesce(1))
    found = [(r["kafka_offset"], r["is_version"]) for r in changes.frame().collect()]
    assert found == [(n, is_version) for n in range(500) for is_version in (True, False)]


def test_rows_without_a_kafka_position_are_backfill_rows_of_version_0(spark: SparkSession) -> None:
    flat = frames.messages(spark, [message(row())]).withColumn("offset", F.lit(None).cast("bigint"))
    changes = frames.of_messages(spark, flat)
    found = changes.frame().select("kind", "op", "version", "kafka_offset", "event_id").collect()
    assert [tuple(r) for r in found] == [("change", "r", 0, None, 1)]


def test_an_empty_catalogue_knows_no_content(spark: SparkSession) -> None:
    changes = frames.changes(spark, [created()], content=[])
    assert [tuple(r) for r in changes.frame().select("flags", "slug").collect()] == [(["content_missing"], None)]


def test_shared_contents_go_with_the_next_share_after_the_last_reference(spark: SparkSession) -> None:
    changes = frames.changes(spark, [created()])
    path = Path(changes.contents.variable._path)
    frames.changes(spark, [created()])
    assert changes.frame().select("slug").first() == (CONTENT_ROWS[0]["slug"],)
    assert path.exists()
    del changes
    gc.collect()
    frames.changes(spark, [created()])
    assert not path.exists()


def test_shared_contents_that_are_collected_within_a_call_to_spark_leave_it_alone(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = [frames.changes(spark, [created()])]
    receive = socket.SocketIO.readinto

    def readinto(stream: socket.SocketIO, into: memoryview) -> int | None:
        held.clear()  # as the collector may do wherever Python runs
        return receive(stream, into)

    monkeypatch.setattr(socket.SocketIO, "readinto", readinto)
    assert spark.range(3).count() == 3
    assert not held


def test_sinks_that_give_way_have_workers_of_a_lower_priority(spark: SparkSession) -> None:
    def niceness(workers: Workers) -> int:
        changes = replace(_mixed(spark), workers=workers)
        (row,) = changes.each_partition(frames.own_niceness, pa.schema([("niceness", pa.int32())])).collect()
        return int(row.niceness)

    assert niceness(Workers.GIVE_WAY) - niceness(Workers.FIRST) == Workers.GIVE_WAY.value
    assert niceness(Workers.FIRST) == os.getpriority(os.PRIO_PROCESS, 0)
