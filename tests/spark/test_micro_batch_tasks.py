"""How many tasks a micro-batch is, by how much there is to do and whose it is, and whether its code is compiled."""

from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from py4j.java_gateway import JVMView
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from tests.builders import created
from tests.spark import frames

from engagement.identity import OffsetRange
from engagement.streaming.changes import TopicChanges
from engagement.transform.changes import Changes
from engagement.workers import Workers

pytestmark = pytest.mark.spark

PARTITIONS = 3


@pytest.mark.parametrize(
    ("workers", "messages", "tasks"),
    [
        (Workers.FIRST, 0, 1),
        (Workers.FIRST, 5_000, 1),
        (Workers.FIRST, 5_001, 2),
        (Workers.FIRST, 1_000_000, PARTITIONS),
        (Workers.GIVE_WAY, 20_000, 1),
        (Workers.GIVE_WAY, 30_000, 2),
        (Workers.GIVE_WAY, 1_000_000, PARTITIONS),
    ],
)
def test_a_task_is_worth_its_cost(spark: SparkSession, workers: Workers, messages: int, tasks: int) -> None:
    changes = changes_of(spark.newSession(), workers, messages)
    assert changes.workers is workers
    assert changes.messages.rdd.getNumPartitions() == tasks


@pytest.mark.parametrize(("messages", "mode"), [(49_999, "NO_CODEGEN"), (50_000, "FALLBACK"), (1, "NO_CODEGEN")])
def test_code_is_compiled_for_many_rows_in_the_session_of_the_micro_batch_alone(
    spark: SparkSession, messages: int, mode: str
) -> None:
    setting = "spark.sql.codegen.factoryMode"
    of_query, other = spark.newSession(), spark.newSession()  # Spark gives each query one of its own
    assert changes_of(of_query, Workers.FIRST, messages).messages.sparkSession.conf.get(setting) == mode
    assert other.conf.get(setting) == "NO_CODEGEN"


def test_large_messages_come_to_a_worker_in_small_pieces(spark: SparkSession) -> None:
    """Three tasks each of four queries may fill buffers at once, from what one JVM has beside its heap."""
    large = spark.range(60, numPartitions=1).select(F.repeat(F.lit("x"), 1_048_576).alias("value"))
    pieces = [row.bytes for row in large.mapInArrow(frames.sizes, "bytes BIGINT").collect()]
    assert sum(pieces) > 60_000_000
    assert max(pieces) < 20_000_000


def test_planning_a_pass_through_python_looks_no_class_up_by_a_short_name(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Java would look for it in every package that pyspark imports, and in every jar."""
    changes = changes_of(spark, Workers.FIRST, 1)
    asked: list[str] = []
    answer = JVMView.__getattr__
    monkeypatch.setattr(JVMView, "__getattr__", lambda view, name: asked.append(name) or answer(view, name))
    changes.each_partition(iter, pa.schema([("n", pa.int64())]))
    assert asked  # by whole names, which costs Java a look
    assert [name for name in asked if "." not in name] == []


def changes_of(spark: SparkSession, workers: Workers, messages: int) -> Changes:
    given = frames.changes(spark, [created()])
    nothing: Any = None
    content: Any = SimpleNamespace(current=SimpleNamespace(contents=given.contents))
    reader = TopicChanges(spark, nothing, content, lambda: None, workers)
    split = given.messages.repartition(PARTITIONS)
    ranges = [OffsetRange("events", number, 0, part) for number, part in enumerate(_shares(messages))]
    return reader.changes(split, ranges)


def _shares(messages: int) -> list[int]:
    """The messages, spread over the topic's partitions."""
    return [messages // PARTITIONS, messages // PARTITIONS, messages - 2 * (messages // PARTITIONS)]
