import re
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from engagement.monitoring.board import BatchRecord, StatusBoard
from engagement.monitoring.catalogue import LABELS, METRICS, PROBE_FRESHNESS, PROCESS_MEMORY, SLOT_LAG, Metric
from engagement.monitoring.health import ComponentHealth, HealthStatus, Reading
from engagement.monitoring.measures import Measures, measured
from engagement.monitoring.metrics import MetricsInput, metric_families, to_json, to_prometheus
from engagement.monitoring.queries import judge_query
from engagement.monitoring.status import QueryState

UNITS = (
    "rows|seconds|bytes|ratio|info|rows_per_second|responses|rebuilds|retries|records|requests|tasks|chunks|truncations"
)
NAME = re.compile(rf"engagement_([a-z0-9]+_)*({UNITS})")


def given() -> MetricsInput:
    board = StatusBoard("redis", lambda: 1000.0)
    letters = {"E_JSON": 2, "E_ENVELOPE": 1}
    board.record_batch(
        BatchRecord(4, 12, delivered=7, dead_letters=letters, tombstones=1, moves=1, duration_ms=250.0, truncations=1)
    )
    board.record_freshness(0.07, 3)
    board.record_freshness(99.0)
    board.record_lag({0: 5, 2: 7}, {0: 0.0, 2: 1.5})
    board.record_phases({"addBatch": 200.0})
    board.record_retry()
    components = [
        Reading("postgres", HealthStatus.HEALTHY),
        Reading("replication_slot", HealthStatus.DEGRADED, measured=(measured(SLOT_LAG, 4096),)),
        judge_query(board.snapshot(), 4.0),
    ]
    healths = {reading.component: ComponentHealth(reading, 0.0) for reading in components}
    measures = Measures("serve", lambda: 1001.0)
    measures.set(PROCESS_MEMORY, 1 << 20, process="serve")
    measures.observe(PROBE_FRESHNESS, 0.3, sink="redis")
    return MetricsInput({"redis": board.snapshot()}, healths, {200: 3, 503: 1}, 1004.0, {"serve": measures.snapshot()})


def scrape(now: MetricsInput | None = None) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(to_prometheus(metric_families(now or given())).decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def test_a_scrape_says_what_the_status_says() -> None:
    samples = scrape()
    redis = (("sink", "redis"),)
    assert samples["engagement_read_rows_total", redis] == 12
    assert samples["engagement_processed_rows_total", (("outcome", "dead_letters"), *redis)] == 3
    assert samples["engagement_dead_letter_rows_total", (("code", "E_JSON"), *redis)] == 2
    assert samples["engagement_truncations_total", redis] == 1
    assert samples["engagement_conservation_difference_rows", redis] == 0
    assert samples["engagement_lag_rows", (("partition", "2"), *redis)] == 7
    assert samples["engagement_batch_duration_seconds", redis] == 0.25
    assert samples["engagement_status_age_seconds", redis] == 4.0
    assert samples["engagement_replication_slot_lag_bytes", ()] == 4096
    assert samples["engagement_component_health_ratio", (("component", "replication_slot"),)] == 0.5
    assert samples["engagement_component_health_ratio", (("component", "query:redis"),)] == 1.0
    assert samples["engagement_health_ratio", ()] == 0.5
    assert samples["engagement_lag_seconds", (("partition", "2"), *redis)] == 1.5
    assert samples["engagement_batch_phase_seconds", (("phase", "addBatch"), *redis)] == 0.2
    assert samples["engagement_retries_total", redis] == 1
    assert samples["engagement_process_memory_bytes", (("process", "serve"),)] == 1 << 20
    assert samples["engagement_probe_freshness_seconds_count", redis] == 1
    assert samples["engagement_measures_age_seconds", (("process", "serve"),)] == 3.0
    assert samples["engagement_api_responses_total", (("code", "503"),)] == 1


def test_the_age_of_a_status_is_not_reckoned_from_the_clock_of_another_machine() -> None:
    before = given()
    later = replace(before, now=before.now + 3600)
    assert scrape(later)["engagement_status_age_seconds", (("sink", "redis"),)] == 4.0


OF_NOW = {
    "engagement_input_rows_per_second", "engagement_lag_rows", "engagement_lag_seconds",
    "engagement_batch_phase_seconds", "engagement_query_state_info",
}  # fmt: skip


@pytest.mark.parametrize(
    ("state", "silent", "left_out"),
    [
        (QueryState.RUNNING, 1.0, set[str]()),
        (QueryState.WAITING, 1.0, set[str]()),
        (QueryState.FAILED, 1.0, set[str]()),  # it stands still, and what waits for it grows
        (QueryState.RUNNING, 60.0, OF_NOW),
        (QueryState.WAITING, 60.0, OF_NOW),
        (QueryState.STOPPED, 60.0, OF_NOW - {"engagement_query_state_info"}),
        (QueryState.FAILED, 60.0, OF_NOW - {"engagement_query_state_info"}),
    ],
)
def test_what_a_query_did_last_is_not_shown_as_what_it_does_once_it_is_silent(
    state: QueryState, silent: float, left_out: set[str]
) -> None:
    before = given()
    status = before.queries["redis"].model_copy(update={"state": state})
    reading = judge_query(status, silent)
    components = {**before.components, reading.component: ComponentHealth(reading, 0.0)}
    shown = scrape(replace(before, queries={"redis": status}, components=components))
    assert {name for name, _ in scrape()} - {name for name, _ in shown} == left_out
    assert shown["engagement_read_rows_total", (("sink", "redis"),)] == 12
    state_now = ("engagement_query_state_info", (("sink", "redis"), ("state", state.value)))
    assert shown.get(state_now) == (None if state_now[0] in left_out else 1.0)


def test_freshness_buckets_are_cumulative_and_end_with_all() -> None:
    samples = scrape()
    buckets = {
        dict(labels)["le"]: value
        for (name, labels), value in samples.items()
        if name == "engagement_freshness_seconds_bucket"
    }
    assert (buckets["0.05"], buckets["0.1"], buckets["60"], buckets["+Inf"]) == (0, 3, 3, 4)
    assert samples["engagement_freshness_seconds_count", (("sink", "redis"),)] == 4


def test_buckets_of_a_job_of_another_version_are_left_out_and_hide_nothing_else() -> None:
    now = given()
    fresh = now.queries["redis"].freshness
    other = fresh.model_copy(update={"buckets_seconds": (1.0,), "cumulative": (3, 4)})
    query = now.queries["redis"].model_copy(update={"freshness": other})
    shown = to_prometheus(metric_families(replace(now, queries={"redis": query}))).decode()
    assert "engagement_freshness_seconds" not in shown
    assert 'engagement_read_rows_total{sink="redis"} 12.0' in shown


def test_outcomes_of_a_scrape_add_up_to_the_rows_read() -> None:
    samples = scrape()
    outcomes = [value for (name, _), value in samples.items() if name == "engagement_processed_rows_total"]
    assert sum(outcomes) == samples["engagement_read_rows_total", (("sink", "redis"),)]


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: str(metric.short_name))
def test_a_metric_has_a_unit_a_meaning_and_labels_of_the_closed_sets(metric: Metric) -> None:
    assert NAME.fullmatch(metric.name)
    assert metric.text.endswith(".")
    assert set(metric.labels) <= LABELS


def test_only_what_was_measured_is_shown_and_only_what_the_catalogue_has() -> None:
    shown = {family.name for family in metric_families(given())}
    assert shown < set(METRICS)
    assert "engagement_breaker_state_info" not in shown


def test_json_says_the_same_as_the_text() -> None:
    shown = to_json(metric_families(given()))
    from_json = {
        (sample["name"], tuple(sorted(sample["labels"].items()))): sample["value"]
        for family in shown.values()
        for sample in family["samples"]
        if "le" not in sample["labels"]
    }
    text = {key: value for key, value in scrape().items() if "le" not in dict(key[1])}
    assert from_json == text


def test_without_any_query_there_are_still_metrics() -> None:
    nothing = MetricsInput({}, {}, {}, now=0.0)
    assert b"engagement_health_ratio 1.0" in to_prometheus(metric_families(nothing))
