"""What a process measures: it never raises, and what cannot be read never hides the rest."""

import doctest
import json
import math
from collections.abc import Callable
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as RedisGone

from engagement.monitoring import catalogue, guard, lag, listener
from engagement.monitoring.board import StatusBoard
from engagement.monitoring.lag import LagClock
from engagement.monitoring.listener import ProgressListener
from engagement.monitoring.measures import Measures, parse_measures


class Pipeline:
    """Redis as far as a flush goes: remembers, or is away."""

    def __init__(self, *, away: bool = False) -> None:
        self.away = away
        self.fields: dict[str | bytes, str | bytes] = {}

    def pipeline(self, **_: object) -> "Pipeline":
        return self

    def __enter__(self) -> "Pipeline":
        return self

    def __exit__(self, *_: object) -> None: ...

    def hset(self, _key: str, field: str, text: str) -> None:
        self.fields[field] = text

    def expire(self, *_: object) -> None: ...

    def execute(self) -> None:
        if self.away:
            raise RedisGone("away")


def test_what_is_measured_comes_back_from_redis() -> None:
    measures, redis = Measures("stream", lambda: 1000.0), Pipeline()
    measures.set(catalogue.PROCESS_MEMORY, 5, process="stream")
    measures.add(catalogue.PROBE_MISSES, sink="redis")
    measures.add(catalogue.PROBE_MISSES, 2, sink="redis")
    measures.observe(catalogue.PROBE_FRESHNESS, 0.2, 3, sink="redis")
    assert measures.flush(redis)  # type: ignore[arg-type]
    read = parse_measures(redis.fields)["stream"]
    assert {one.metric: one.value for one in read.values} == {
        "engagement_process_memory_bytes": 5.0,
        "engagement_probe_missed_rows": 3.0,
        "engagement_probe_freshness_seconds": pytest.approx(0.6),
    }


@pytest.mark.parametrize(
    "record",
    [
        lambda m: m.set(catalogue.PROCESS_MEMORY, math.nan, process="x"),
        lambda m: m.set(catalogue.PROCESS_MEMORY, 1.0),
        lambda m: m.set(catalogue.PROCESS_MEMORY, 1.0, sink="x"),
        lambda m: m.set(catalogue.PROBE_MISSES, 1.0, sink="x"),
        lambda m: m.add(catalogue.PROBE_MISSES, "much", sink="x"),
        lambda m: m.observe(catalogue.PROBE_FRESHNESS, math.inf, sink="x"),
    ],
)
def test_a_wrong_record_is_counted_and_left_out(record: Callable[[Measures], None]) -> None:
    measures = Measures("stream")
    record(measures)
    assert (measures.dropped, measures.snapshot().values) == (1, ())


def test_a_flush_to_a_dead_redis_is_counted_and_the_next_carries_everything() -> None:
    measures, redis = Measures("stream", lambda: 1000.0), Pipeline(away=True)
    measures.set(catalogue.PROCESS_MEMORY, 5, process="stream")
    assert not measures.flush(redis, force=True)  # type: ignore[arg-type]
    redis.away = False
    assert measures.flush(redis, force=True)  # type: ignore[arg-type]
    assert (measures.failed_flushes, len(parse_measures(redis.fields)["stream"].values)) == (1, 1)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"updated_at": "x", "values": []}', b"\xff\xfe"])
def test_a_field_that_cannot_be_read_never_hides_the_others(text: str | bytes) -> None:
    measures, redis = Measures("stream", lambda: 1000.0), Pipeline()
    measures.flush(redis)  # type: ignore[arg-type]
    assert parse_measures({**redis.fields, "broken": text}).keys() == {"stream"}


def test_metrics_of_a_newer_version_or_another_shape_are_left_out() -> None:
    values = [
        {"metric": "engagement_of_tomorrow", "value": 1.0},
        {"metric": "engagement_process_memory_bytes", "labels": {"host": "x"}, "value": 1.0},
        {"metric": "engagement_probe_freshness_seconds", "labels": {"sink": "redis"}, "value": 1.0, "counts": [1]},
        {"metric": "engagement_process_memory_bytes", "labels": {"process": "x"}, "value": 7.0},
    ]
    text = json.dumps({"updated_at": "2026-01-01T00:00:00Z", "values": values})
    assert [one.value for one in parse_measures({"x": text})["x"].values] == [7.0]


@given(st.lists(st.tuples(st.floats(0.1, 5.0), st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=40))
def test_the_age_of_the_oldest_waiting_message_is_known_to_one_look(steps: list[tuple[float, int, int]]) -> None:
    clock, now, end, taken = LagClock(), 0.0, 0, 0
    came: list[float] = []  # when each offset was first seen
    for seconds, more, take in steps:
        now += seconds
        end += more
        came += [now] * more
        taken = min(end, taken + take)
        clock.note({0: end}, now)
        expected = now - came[taken] if taken < end else 0.0
        assert clock.waited({0: taken}, now) == {0: pytest.approx(expected)}


def test_another_topic_under_the_same_name_is_no_age() -> None:
    clock = LagClock()
    clock.note({0: 100}, 0.0)
    clock.note({0: 3}, 50.0)
    assert clock.waited({0: 1}, 51.0) == {0: 1.0}


class Progress:
    """A progress event of Spark's, or something that is none."""

    def __init__(self, name: str, text: str) -> None:
        self._name, self._text = name, text

    def progress(self) -> "Progress":
        return self

    def name(self) -> str:
        return self._name

    def json(self) -> str:
        return self._text


def test_the_listener_notes_phases_once_a_second() -> None:
    now = [0.0]
    board = StatusBoard("redis", lambda: 5.0)
    ears = ProgressListener({"redis": board}, lambda: now[0])
    ears.onQueryProgress(Progress("redis", '{"durationMs": {"addBatch": 12}}'))
    ears.onQueryProgress(Progress("redis", '{"durationMs": {"addBatch": 99}}'))
    ears.onQueryProgress(Progress("somebody's", '{"durationMs": {"addBatch": 99}}'))
    assert board.snapshot().phases_ms == {"addBatch": 12.0}
    now[0] += 1
    ears.onQueryProgress(Progress("redis", '{"durationMs": {"addBatch": 99}}'))
    assert board.snapshot().phases_ms == {"addBatch": 99.0}


@pytest.mark.parametrize("event", [None, 7, Progress("redis", "no JSON"), Progress("redis", '{"durationMs": 7}')])
def test_the_listener_never_raises(event: object) -> None:
    ears = ProgressListener({"redis": StatusBoard("redis")})
    ears.onQueryProgress(event)
    assert ears.failures == 1


@pytest.mark.parametrize("module", [guard, lag, listener])
def test_examples_hold(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0
