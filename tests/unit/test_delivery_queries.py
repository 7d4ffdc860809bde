"""The life of a query as far as it needs no Spark: what ends it for good, and what it waits for by itself."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from py4j.protocol import Py4JNetworkError
from pyspark.sql import SparkSession

from engagement.delivery.agreement import Agreement, OnLoss
from engagement.delivery.checkpoint import Checkpoint
from engagement.delivery.microbatch import MicroBatchRunner
from engagement.delivery.queries import QueryParts, QueryPlan, SinkQuery
from engagement.errors import EngagementError, PermanentError, PermanentSinkError
from engagement.sinks.base import Sink
from engagement.sources.kafka import KafkaTopic, TopicPositions
from engagement.streaming.job import BEAT_SECONDS, RunningQuery, StreamingJob

PLAN = QueryPlan(0, 1, "redis", (0.0,))


class BrokenSink:
    """A destination whose opening fails as it is told to, the last way again and again."""

    name = "broken"

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.opened = 0
        self.closed = False

    def open(self) -> None:
        self.opened += 1
        raise self._errors[min(self.opened, len(self._errors)) - 1]

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


class Positions:
    """A topic that has just been made."""

    def topic_id(self) -> str:
        return "a topic"

    def bounds(self) -> dict[int, tuple[int, int]]:
        return {0: (0, 0)}


class NoWait(threading.Event):
    """Waits for nothing."""

    def wait(self, timeout: float | None = None) -> bool:
        del timeout
        return self.is_set()


def query_of(
    folder: Path, sink: BrokenSink, states: States, runner: Runner, stop: threading.Event | None = None
) -> SinkQuery:
    topic = KafkaTopic("events", "localhost:1", "test")
    theirs = cast("Sink", sink), Checkpoint(folder, "broken"), topic
    runs = cast("MicroBatchRunner", runner)
    agreement = Agreement(*theirs, cast("TopicPositions", Positions()), runs, "earliest", OnLoss.STAND_STILL)
    parts = QueryParts(*theirs, agreement, runs, states, lambda _: None)
    return SinkQuery(cast("SparkSession", None), parts, PLAN, stop or threading.Event())


class Nothing:
    """A board, contents and a status that take whatever they are told."""

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_, **__: None


def job_of(
    queries: Sequence[SinkQuery],
    stop: threading.Event,
    looks: list[None] | None = None,
    leading: SinkQuery | None = None,
) -> StreamingJob:
    """A job that notes each of its looks after the queries."""
    nothing = cast("Any", Nothing())
    nothing.flush = lambda *_, **__: (looks if looks is not None else []).append(None)
    running = [
        RunningQuery(query, nothing, nothing, nothing, lambda: None, leads=query is leading) for query in queries
    ]
    nothing.client = nothing.measures = nothing
    return StreamingJob(running, nothing, nothing, 60.0, stop)


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


def test_what_nobody_foresaw_ends_the_query_as_failed(tmp_path: Path) -> None:
    sink, states = BrokenSink(RuntimeError("no such thing")), States()
    query = query_of(tmp_path, sink, states, Runner())
    query.run()
    assert "RuntimeError: no such thing" in str(query.failure)
    assert states.seen == ["starting", "failed"]
    assert sink.closed


def test_a_sink_that_is_refused_is_asked_again_and_does_not_end_the_job(tmp_path: Path) -> None:
    refusal = PermanentSinkError("broken", "403: access denied")
    sink, states = BrokenSink(refusal, refusal, RuntimeError("the end of this test")), States()
    query = query_of(tmp_path, sink, states, Runner(), NoWait())
    query.run()
    assert sink.opened == 3
    assert Checkpoint(tmp_path, "broken").begun_at("events", "a topic") == {0: 0}
    assert states.seen == ["starting", "failed", "starting", "failed", "starting", "failed"]


def test_a_sink_that_stands_still_goes_on_telling_why_after_the_job_has_ended(tmp_path: Path) -> None:
    stop, states = threading.Event(), States()
    query = query_of(tmp_path, BrokenSink(PermanentSinkError("broken", "403: access denied")), states, Runner(), stop)
    with pytest.raises(EngagementError, match="access denied"):
        job_of([query], stop).run()
    assert states.seen == ["starting", "failed"]


@pytest.mark.parametrize("others", [(), (ConnectionRefusedError(111, "refused"),)])
def test_the_job_ends_once_every_sink_is_refused_or_one_cannot_go_on(
    tmp_path: Path, others: Sequence[Exception]
) -> None:
    errors = [PermanentSinkError("broken", "403: access denied"), *others]
    stop = threading.Event()
    queries = [
        query_of(tmp_path / str(number), BrokenSink(error), States(), Runner(), stop)
        for number, error in enumerate(errors)
    ]
    with pytest.raises(EngagementError, match="JVM" if others else "access denied"):
        job_of(queries, stop).run()


class LeadingSink(BrokenSink):
    """A destination that opens only after some time; remembers whether another one was opened before that."""

    def __init__(self, other: BrokenSink, error: Exception, limit_seconds: float) -> None:
        super().__init__(error)
        self._other, self._limit_seconds = other, limit_seconds
        self.came_first = True

    def open(self) -> None:
        end = time.monotonic() + self._limit_seconds
        while time.monotonic() < end and not self._other.opened:
            time.sleep(0.01)
        self.came_first = not self._other.opened
        super().open()


@pytest.mark.parametrize(
    ("head_start_seconds", "takes_seconds", "comes_first"),
    [pytest.param(30.0, 0.3, True, id="others wait for it"), pytest.param(0.1, 30.0, False, id="but not for long")],
)
def test_the_query_that_leads_begins_before_the_others(
    tmp_path: Path, head_start_seconds: float, takes_seconds: float, comes_first: bool
) -> None:
    stop, gone = threading.Event(), ConnectionRefusedError(111, "refused")
    other = BrokenSink(gone)
    leading = LeadingSink(other, PermanentSinkError("broken", "403: access denied"), takes_seconds)
    first = query_of(tmp_path / "leading", leading, States(), Runner(), stop)
    job = job_of([query_of(tmp_path / "other", other, States(), Runner(), stop), first], stop, leading=first)
    job.head_start_seconds = head_start_seconds
    with pytest.raises(PermanentError, match="JVM"):
        job.run()
    assert leading.came_first is comes_first
    assert other.opened == 1


def test_a_query_that_waits_for_its_turn_has_its_checkpoint_already(tmp_path: Path) -> None:
    """Or another driver could take it meanwhile, and both would end."""
    query, refused = query_of(tmp_path, BrokenSink(RuntimeError("the end")), States(), Runner()), list[str]()

    def others_turn() -> None:
        with pytest.raises(PermanentError, match="another streaming job") as error:
            Checkpoint(tmp_path, "broken").lock()
        refused.append(str(error.value))

    query.run(others_turn)
    assert len(refused) == 1


class Going:
    """A query that goes on until it is told to stop, beside one that is refused."""

    def __init__(self, stop: threading.Event, beside: SinkQuery) -> None:
        self._stop, self._beside = stop, beside
        self.name, self.failure, self.standstill = "going", None, None
        self.was_told_to_stop = True

    def run(self, _await_turn: Callable[[], object]) -> None:
        while self._beside.standstill is None:
            time.sleep(0.01)
        self.was_told_to_stop = self._stop.wait(3 * BEAT_SECONDS)
        self._stop.set()


def test_a_refused_sink_holds_up_no_other(tmp_path: Path) -> None:
    stop = threading.Event()
    refused = query_of(tmp_path, BrokenSink(PermanentSinkError("broken", "403")), States(), Runner(), stop)
    going = Going(stop, refused)
    job_of([refused, cast("SinkQuery", going)], stop).run()
    assert not going.was_told_to_stop


class Slow:
    """A query that takes its time to stop."""

    name, failure, standstill = "slow", None, None

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def run(self, _await_turn: Callable[[], object]) -> None:
        self._stop.wait()
        threading.Event().wait(3 * BEAT_SECONDS)


def test_the_job_rests_between_its_looks_when_one_query_has_ended_before_the_others(tmp_path: Path) -> None:
    stop, looks = threading.Event(), list[None]()
    ended = query_of(tmp_path, BrokenSink(ConnectionRefusedError(111, "refused")), States(), Runner(), stop)
    job = job_of([ended, cast("SinkQuery", Slow(stop))], stop, looks)
    with pytest.raises(PermanentError, match="JVM"):
        job.run()
    assert len(looks) <= 30


def test_what_a_sink_has_to_tell_does_not_wait_for_kafka(tmp_path: Path) -> None:
    """Its breaker opens while brokers are away, too; and whoever is alarmed by it waits long enough as it is."""
    stop, told = threading.Event(), list[object]()
    nothing = cast("Any", Nothing())
    nothing.client = nothing.measures = nothing
    query = query_of(tmp_path, BrokenSink(RuntimeError("the end of this test")), States(), Runner(), stop)
    running = RunningQuery(query, nothing, nothing, nothing, lambda: None, measure=told.append)
    with pytest.raises(PermanentError, match="the end of this test"):
        StreamingJob([running], nothing, nothing, 60.0, stop).run()
    assert nothing in told


def test_a_client_that_cannot_be_made_is_a_matter_of_settings() -> None:
    secured = {"bootstrap.servers": "localhost:1", "security.protocol": "SSL", "ssl.ca.location": "/no/such"}
    topic = KafkaTopic("events", "localhost:1", "test", client_properties=secured)
    with pytest.raises(PermanentError, match="KAFKA_SECURITY"):
        TopicPositions(topic).topic_id()
    with pytest.raises(PermanentError, match="KAFKA_SECURITY"):
        TopicPositions(topic).bounds()
