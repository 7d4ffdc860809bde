"""Every metric the API exports: name, type, meaning and value, in one place; JSON and Prometheus say the same.

Names are `engagement_<thing>_<unit>[_total]`; labels are sink, outcome, code and partition, all small closed sets.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from engagement.monitoring.health import ComponentHealth, HealthStatus, judge
from engagement.monitoring.queries import QUERY_PREFIX
from engagement.monitoring.status import QueryStatus

HEALTH_RATIO = {
    HealthStatus.HEALTHY: 1.0,
    HealthStatus.DEGRADED: 0.5,
    HealthStatus.UNHEALTHY: 0.0,
    HealthStatus.UNKNOWN: 0.0,
}


@dataclass(frozen=True)
class MetricsInput:
    """Everything metrics are made of, at `now` (epoch seconds); `responses` counts API answers by status code."""

    queries: Mapping[str, QueryStatus]
    components: Mapping[str, ComponentHealth]
    responses: Mapping[int, int]
    now: float


def metric_families(given: MetricsInput) -> list[Metric]:
    """Return all metric families with their samples."""
    statuses = list(given.queries.values())
    return [
        *_row_families(statuses),
        *_query_families(statuses, given.now),
        _freshness_family(statuses),
        *_health_families(given.components),
        _counter("api_responses", "API answers by HTTP status code.", "code", given.responses.items()),
    ]


def to_prometheus(families: list[Metric]) -> bytes:
    """Render the families in Prometheus's text exposition format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Fixed(families))
    return generate_latest(registry)


def to_json(families: Iterable[Metric]) -> dict[str, Any]:
    """Render the families as {family: {type, help, samples: [{name, labels, value}]}}."""
    return {
        family.name: {
            "type": family.type,
            "help": family.documentation,
            "samples": [{"name": s.name, "labels": s.labels, "value": s.value} for s in family.samples],
        }
        for family in families
    }


class _Fixed(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families

    def describe(self) -> list[Metric]:
        return []


def _counter(name: str, text: str, label: str, values: Iterable[tuple[object, float]]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"engagement_{name}", text, labels=[label])
    for key, value in values:
        family.add_metric([str(key)], value)
    return family


def _gauge(name: str, text: str, values: Iterable[tuple[str, float | None]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"engagement_{name}", text, labels=["sink"])
    for sink, value in values:
        if value is not None:
            family.add_metric([sink], value)
    return family


def _row_families(statuses: list[QueryStatus]) -> Iterator[Metric]:
    read = [(status.sink, status.rows.read) for status in statuses]
    yield _counter("read_rows", "Messages read from Kafka since the query started.", "sink", read)
    outcomes = CounterMetricFamily(
        "engagement_processed_rows", "Messages by outcome; together they equal those read.", labels=["sink", "outcome"]
    )
    codes = CounterMetricFamily(
        "engagement_dead_letter_rows", "Dead letters by the check that refused them.", labels=["sink", "code"]
    )
    for status in statuses:
        rows = status.rows
        for outcome in ("delivered", "tombstones", "moves", "already_delivered"):
            outcomes.add_metric([status.sink, outcome], getattr(rows, outcome))
        outcomes.add_metric([status.sink, "dead_letters"], sum(rows.dead_letters.values()))
        for code, count in rows.dead_letters.items():
            codes.add_metric([status.sink, code], count)
    yield outcomes
    yield codes
    late = [(status.sink, status.late_rows) for status in statuses]
    yield _counter("late_rows", "Events older than the window when they arrived.", "sink", late)
    repeats = [(status.sink, status.repeat_rows) for status in statuses]
    yield _counter("repeat_rows", "Changes the source sent a second time.", "sink", repeats)
    rebuilds = [(status.sink, status.rebuilds) for status in statuses]
    yield _counter("rebuilds", "Times the sink's content was built anew.", "sink", rebuilds)
    difference = [(status.sink, status.rows.conservation_difference) for status in statuses]
    yield _gauge("conservation_difference_rows", "Rows read that have no outcome; must stay 0.", difference)


def _query_families(statuses: list[QueryStatus], now: float) -> Iterator[Metric]:
    lag = GaugeMetricFamily("engagement_lag_rows", "Messages in Kafka not yet taken.", labels=["sink", "partition"])
    for status in statuses:
        for partition, rows in sorted(status.lag_rows.items()):
            lag.add_metric([status.sink, str(partition)], rows)
    yield lag
    gauges: tuple[tuple[str, str, str, float], ...] = (
        ("input_rows_per_second", "Messages read per second, over the last 10 s.", "input_rows_per_second", 1.0),
        ("batch_duration_seconds", "Time the last micro-batch took.", "batch_duration_ms", 0.001),
        ("content_cache_age_seconds", "Age of the content used to enrich.", "content_cache_age_seconds", 1.0),
    )
    for name, text, attribute, factor in gauges:
        values = ((status.sink, getattr(status, attribute)) for status in statuses)
        yield _gauge(name, text, [(sink, None if value is None else value * factor) for sink, value in values])
    ages = [(status.sink, max(0.0, now - status.updated_at.timestamp())) for status in statuses]
    yield _gauge("status_age_seconds", "Time since the query last wrote its status.", ages)
    starts = [(status.sink, status.started_at.timestamp()) for status in statuses]
    yield _gauge("query_start_timestamp_seconds", "When the query started; its totals began at 0 then.", starts)


def _freshness_family(statuses: list[QueryStatus]) -> Metric:
    family = HistogramMetricFamily(
        "engagement_freshness_seconds", "From commit to visible in the sink.", labels=["sink"]
    )
    for status in statuses:
        bounds = [*(f"{bound:g}" for bound in status.freshness.buckets_seconds), "+Inf"]
        buckets = list(zip(bounds, map(float, status.freshness.cumulative), strict=True))
        family.add_metric([status.sink], buckets, status.freshness.sum_seconds)
    return family


def _health_families(components: Mapping[str, ComponentHealth]) -> Iterator[Metric]:
    overall = HEALTH_RATIO[judge(list(components.values()))]
    yield GaugeMetricFamily("engagement_health_ratio", "The whole: 1 healthy, 0.5 degraded, 0 unhealthy.", overall)
    queries: list[tuple[str, float | None]] = []
    for name, component in components.items():
        ratio = HEALTH_RATIO[component.reading.status]
        if name.startswith(QUERY_PREFIX):
            queries.append((name.removeprefix(QUERY_PREFIX), ratio))
        else:
            yield GaugeMetricFamily(f"engagement_{name}_health_ratio", f"Health of {name}, as above.", ratio)
    yield _gauge("query_health_ratio", "Health of each streaming query, as above.", queries)
    slot = components.get("replication_slot")
    for key in ("lag_bytes", "retained_bytes"):
        value = slot.reading.details.get(key) if slot is not None else None
        if isinstance(value, int):
            text = "WAL the slot's reader has not confirmed." if key == "lag_bytes" else "WAL kept for the slot."
            yield GaugeMetricFamily(f"engagement_replication_slot_{key}", text, value)
