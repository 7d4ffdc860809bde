"""Rows that the driver holds become part of the plan: no task and no Python worker is needed to have them."""

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from engagement.small_frames import event_ids, small_frame

pytestmark = pytest.mark.spark
SCHEMA = pa.schema([("number", pa.int32()), ("at", pa.timestamp("us", "UTC")), ("text", pa.string())])


def test_rows_are_as_they_were_given(spark: SparkSession) -> None:
    frame = small_frame(spark, SCHEMA, [(1, None, "a"), (None, 5, None)])
    found = frame.selectExpr("number", "unix_micros(at) as at", "text").collect()
    assert [tuple(row) for row in found] == [(1, None, "a"), (None, 5, None)]
    assert frame.dtypes == [("number", "int"), ("at", "timestamp"), ("text", "string")]
    assert small_frame(spark, SCHEMA, []).collect() == []


def test_they_are_part_of_the_plan(spark: SparkSession, capsys: pytest.CaptureFixture[str]) -> None:
    event_ids(spark, range(3)).explain()
    plan = capsys.readouterr().out
    assert "LocalTableScan" in plan
    assert "RDD" not in plan
