"""What commands and sinks tell the monitoring beside the queries' status, through a real Redis."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr
from tests.contract.api_running import free_port, running_redis

from engagement.backfill.command import audience_of
from engagement.backfill.progress import Progress
from engagement.errors import TransientError
from engagement.monitoring.board import StatusBoard
from engagement.monitoring.client import redis_client
from engagement.monitoring.health import Clocks, ComponentHealth
from engagement.monitoring.live import live_queries
from engagement.monitoring.measures import Measures, read_measures
from engagement.monitoring.metrics import MetricsInput, metric_families, to_prometheus
from engagement.monitoring.probes import RedisProbe
from engagement.reconcile.build import publish
from engagement.settings import RedisSettings, Settings
from engagement.sinks.external.gate import GateState
from engagement.sinks.external.trip import Tally
from engagement.streaming.external import measure_breaker, measure_requests

pytestmark = pytest.mark.redis


def told(settings: RedisSettings, process: str) -> dict[tuple[str, ...], float]:
    client = redis_client(settings)
    fields = read_measures(client)
    client.close()
    values = [one for field, each in fields.items() if field.startswith(f"{process}:") for one in each.values]
    return {(one.metric, *sorted(one.labels.values())): one.value for one in values}


def test_a_reconcile_tells_what_differs_and_afterwards_that_nothing_does(tmp_path: Path) -> None:
    with running_redis(tmp_path) as server:
        settings = Settings(redis=server.settings)
        publish(settings, {"lake": {"missing": 3, "stale": 1, "uncounted": 7}, "warehouse": {}})
        found = told(server.settings, "reconcile")
        assert found["engagement_drift_rows", "lake", "missing"] == 3
        assert found["engagement_drift_rows", "lake", "stale"] == 1
        assert found["engagement_drift_rows", "lake", "uncounted"] == 7
        assert found["engagement_reconcile_timestamp_seconds", "warehouse"] > 1_700_000_000
        publish(settings, {"lake": {}, "warehouse": {}})
        after = told(server.settings, "reconcile")
        assert {value for (name, *_), value in after.items() if name == "engagement_drift_rows"} <= {0.0}


def test_a_reconcile_of_one_sink_leaves_what_is_known_of_the_others(tmp_path: Path) -> None:
    with running_redis(tmp_path) as server:
        settings = Settings(redis=server.settings)
        publish(settings, {"lake": {"missing": 3}, "warehouse": {"missing": 40}})
        before = told(server.settings, "reconcile")
        publish(settings, {"lake": {}})
        after = told(server.settings, "reconcile")
        client = redis_client(server.settings)
        measures = read_measures(client)
        client.close()
    assert after.keys() == before.keys()
    assert after["engagement_drift_rows", "lake", "missing"] == 0
    assert after["engagement_drift_rows", "missing", "warehouse"] == 40
    scrape = to_prometheus(metric_families(MetricsInput({}, {}, {}, time.time(), measures))).decode()
    assert 'engagement_drift_rows{kind="missing",sink="warehouse"} 40.0' in scrape
    assert 'engagement_drift_rows{kind="missing",sink="lake"} 0.0' in scrape


def test_a_query_that_nobody_has_run_for_a_day_is_in_no_metric_and_not_on_the_page(tmp_path: Path) -> None:
    with running_redis(tmp_path) as server:
        probe = RedisProbe(redis_client(server.settings), Clocks())
        client = redis_client(server.settings)
        for sink, ago in (("redis", 90_000.0), ("lake", 0.0), ("external", 90_000.0)):
            StatusBoard(sink, clock=lambda ago=ago: time.time() - ago).flush(client, force=True)
        components = {reading.component: ComponentHealth(reading, 0.0) for reading in probe.check()}
        client.close()
        probe.close()
    scrape = to_prometheus(metric_families(MetricsInput(probe.book.queries, components, {}, time.time()))).decode()
    assert [query.sink for query in live_queries(probe.book.queries, components)] == ["redis", "lake"]
    assert 'engagement_status_age_seconds{sink="lake"}' in scrape
    assert "external" not in scrape


def test_a_reconcile_that_nobody_hears_says_so() -> None:
    settings = Settings(redis=RedisSettings(url=SecretStr(f"redis://127.0.0.1:{free_port()}/0")))
    with pytest.raises(TransientError, match="Redis does not answer"):
        publish(settings, {"lake": {}})


def test_a_backfill_tells_how_far_it_is(tmp_path: Path) -> None:
    said: list[str] = []
    with running_redis(tmp_path) as server:
        with audience_of(Settings(redis=server.settings), said.append) as audience:
            progress = Progress("lake", 200, audience, lambda: 0.0)
            progress.add(150)
            progress.fail()
        found = told(server.settings, "backfill")
    names = ("engagement_backfill_planned_rows", "engagement_backfill_done_rows", "engagement_backfill_failed_chunks")
    assert [found[name, "lake"] for name in names] == [200, 150, 1]


def test_a_backfill_of_one_sink_leaves_the_chunks_that_failed_in_another(tmp_path: Path) -> None:
    said: list[str] = []
    with running_redis(tmp_path) as server:
        settings = Settings(redis=server.settings)
        with audience_of(settings, said.append) as audience:
            Progress("warehouse", 200, audience, lambda: 0.0).fail()
        with audience_of(settings, said.append) as audience:
            Progress("lake", 200, audience, lambda: 0.0).add(200)
        found = told(server.settings, "backfill")
    failed = "engagement_backfill_failed_chunks"
    assert (found[failed, "warehouse"], found[failed, "lake"]) == (1, 0)


def test_a_backfill_that_nobody_hears_goes_on() -> None:
    said: list[str] = []
    redis = RedisSettings(url=SecretStr(f"redis://127.0.0.1:{free_port()}/0"))
    with audience_of(Settings(redis=redis), said.append) as audience:
        Progress("lake", 200, audience, lambda: 0.0).tell("chunk 1 of 2")
    with audience_of(Settings(), said.append) as audience:
        Progress("lake", 200, audience, lambda: 0.0).tell("chunk 1 of 2")
    assert len(said) == 2


@pytest.mark.parametrize("state", GateState)
def test_the_breakers_state_is_one_of_four(state: GateState) -> None:
    sink: Any = SimpleNamespace(name="external", gate_state=state)
    measures = Measures("stream")
    measure_breaker(sink, measures)
    values = {one.labels["state"]: one.value for one in measures.snapshot().values}
    assert values == {each.value: float(each is state) for each in GateState}


def test_requests_are_counted_by_what_they_came_to() -> None:
    measures = Measures("stream")
    measure_requests(measures, Tally())
    for _ in range(2):
        measure_requests(measures, Tally(requests=9, refused=2, failures=3, retries=1))
    values = {(one.metric, one.labels.get("outcome")): one.value for one in measures.snapshot().values}
    assert values == {
        ("engagement_requests", "delivered"): 8, ("engagement_requests", "refused"): 4,
        ("engagement_requests", "failed"): 6, ("engagement_request_retries", None): 2,
    }  # fmt: skip
