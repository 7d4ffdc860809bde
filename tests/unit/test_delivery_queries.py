"""The life of a query as far as it needs no Spark: what ends it for good."""

import threading
from pathlib import Path
from typing import cast

import pytest
from py4j.protocol import Py4JNetworkError
from pyspark.sql import SparkSession

from engagement.delivery.checkpoint import Checkpoint
from engagement.delivery.microbatch import MicroBatchRunner
from engagement.delivery.queries import QueryParts, QueryPlan, SinkQuery
from engagement.errors import PermanentError
from engagement.sinks.base import Sink
from engagement.sources.kafka import KafkaTopic, TopicPositions

PLAN = QueryPlan(0, 1, "redis", (0.0,), "earliest")


class BrokenSink:
    """A destination whose opening fails as it is told to."""

    name = "broken"

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.closed = False

    def open(self) -> None:
        raise self._error

    def close(self) -> None:
        self.closed = True


class States:
    """Remembers the states it is told."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def state(self, state: str, _reason: str = "") -> None:
        self.seen.append(state)


class Runner:
    """Stands where the micro-batch runner stands; no micro-batch comes here."""

    def __init__(self) -> None:
        self.gate = threading.Lock()

    def begin(self) -> None:
        """Nothing to forget."""


def query_of(folder: Path, sink: BrokenSink, states: States, runner: Runner) -> SinkQuery:
    topic = KafkaTopic("events", "localhost:1", "test")
    parts = QueryParts(
        cast("Sink", sink), Checkpoint(folder, "broken"), topic, TopicPositions(topic),
        cast("MicroBatchRunner", runner), states, lambda _: None,
    )  # fmt: skip
    return SinkQuery(cast("SparkSession", None), parts, PLAN, threading.Event())


@pytest.mark.parametrize("error", [ConnectionRefusedError(111, "refused"), Py4JNetworkError("empty answer")])
def test_a_jvm_that_has_gone_ends_the_query_as_failed(tmp_path: Path, error: Exception) -> None:
    sink, states = BrokenSink(error), States()
    query = query_of(tmp_path, sink, states, Runner())
    query.run()
    assert isinstance(query.failure, PermanentError)
    assert "JVM" in str(query.failure)
    assert states.seen == ["starting", "failed"]
    assert sink.closed


def test_a_micro_batch_that_a_dead_jvm_leaves_behind_is_waited_for(tmp_path: Path) -> None:
    """It works in the sink; and Python, ending under a thread in native code, would end by a segmentation fault."""
    sink, states, runner = BrokenSink(ConnectionRefusedError(111, "refused")), States(), Runner()
    query = query_of(tmp_path, sink, states, runner)
    thread = threading.Thread(target=query.run)
    with runner.gate:
        thread.start()
        while "failed" not in states.seen:
            thread.join(0.01)
        thread.join(0.1)
        assert thread.is_alive()
        assert not sink.closed
    thread.join(10)
    assert sink.closed
