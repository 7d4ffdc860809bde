"""The values of the metrics of catalogue.py, from what is known; JSON and Prometheus are made of the same families."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from engagement.monitoring import catalogue
from engagement.monitoring.catalogue import METRICS, Metric
from engagement.monitoring.health import ComponentHealth, HealthStatus, judge
from engagement.monitoring.histogram import BUCKETS_SECONDS
from engagement.monitoring.measures import Measured, ProcessMeasures
from engagement.monitoring.queries import query_component, speaks_now
from engagement.monitoring.status import ENDED, QueryState, QueryStatus

HEALTH_RATIO = {
    HealthStatus.HEALTHY: 1.0,
    HealthStatus.DEGRADED: 0.5,
    HealthStatus.UNHEALTHY: 0.0,
    HealthStatus.UNKNOWN: 0.0,
}
_BOUNDS = [*(f"{bound:g}" for bound in BUCKETS_SECONDS), "+Inf"]


@dataclass(frozen=True)
class MetricsInput:
    """Everything metrics are made of, at `now` (epoch seconds); `responses` counts API answers by status code."""

    queries: Mapping[str, QueryStatus]
    components: Mapping[str, ComponentHealth]
    responses: Mapping[int, int]
    now: float
    measures: Mapping[str, ProcessMeasures] = field(default_factory=dict)
    """By process, those of this one too."""


@dataclass(frozen=True)
class Value:
    """One value with its labels in the metric's order; of a histogram the sum, and cumulative counts per bucket."""

    metric: Metric
    labels: tuple[str, ...]
    value: float
    cumulative: tuple[float, ...] | None = None


def metric_families(given: MetricsInput) -> list[Family]:
    """Return a family for each metric that has a value, in the catalogue's order."""
    found: dict[str, dict[tuple[str, ...], Value]] = {}
    for value in _values(given):
        found.setdefault(value.metric.name, {})[value.labels] = value
    return [_family(metric, list(found[name].values())) for name, metric in METRICS.items() if name in found]


def to_prometheus(families: list[Family]) -> bytes:
    """Render the families in Prometheus's text exposition format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Fixed(families))
    return generate_latest(registry)


def to_json(families: Iterable[Family]) -> dict[str, Any]:
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
    def __init__(self, families: list[Family]) -> None:
        self._families = families

    def collect(self) -> list[Family]:
        return self._families

    def describe(self) -> list[Family]:
        return []


def _family(metric: Metric, values: Iterable[Value]) -> Family:
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(metric.name, metric.text, labels=metric.labels)
        for one in values:
            histogram.add_metric(one.labels, list(zip(_BOUNDS, one.cumulative or (), strict=True)), one.value)
        return histogram
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.text, labels=metric.labels)
    for one in values:
        family.add_metric(one.labels, one.value)
    return family


def _values(given: MetricsInput) -> Iterator[Value]:
    for sink, status in given.queries.items():
        component = given.components.get(query_component(sink))
        speaks = speaks_now(component.reading if component else None)
        yield from _rows(status)
        yield from _life(status)
        # Else a query that was killed would go on at its last rate, and its last lag neither grow nor end.
        if speaks:
            yield from _work(status)
        if speaks or status.state in ENDED:
            yield from _state(status)
    yield from _health(given.components)
    for code, count in given.responses.items():
        yield Value(catalogue.API_RESPONSES, (str(code),), count)
    # Oldest first: of two processes that claim the same value the newer one is believed.
    for process, measures in sorted(given.measures.items(), key=lambda one: one[1].updated_at):
        yield from map(_measured, measures.values)
        age = max(0.0, given.now - measures.updated_at.timestamp())
        yield Value(catalogue.MEASURES_AGE, (process,), age)


def _rows(status: QueryStatus) -> Iterator[Value]:
    rows, sink = status.rows, status.sink
    totals = (
        (catalogue.READ_ROWS, rows.read),
        (catalogue.CONSERVATION, rows.conservation_difference),
        (catalogue.LATE_ROWS, status.late_rows),
        (catalogue.REPEAT_ROWS, status.repeat_rows),
        (catalogue.TRUNCATIONS, status.truncations),
        (catalogue.REBUILDS, status.rebuilds),
        (catalogue.RETRIES, status.retries),
        (catalogue.DROPPED_RECORDS, status.dropped_records),
    )
    for metric, value in totals:
        yield Value(metric, (sink,), value)
    for outcome in ("delivered", "tombstones", "moves", "already_delivered"):
        yield Value(catalogue.PROCESSED_ROWS, (sink, outcome), getattr(rows, outcome))
    yield Value(catalogue.PROCESSED_ROWS, (sink, "dead_letters"), sum(rows.dead_letters.values()))
    for code, count in rows.dead_letters.items():
        yield Value(catalogue.DEAD_LETTER_ROWS, (sink, code), count)
    fresh = status.freshness
    if fresh.buckets_seconds == BUCKETS_SECONDS:  # else of a job of another version
        yield Value(catalogue.FRESHNESS, (sink,), fresh.sum_seconds, tuple(map(float, fresh.cumulative)))


def _work(status: QueryStatus) -> Iterator[Value]:
    yield Value(catalogue.INPUT_RATE, (status.sink,), status.input_rows_per_second)
    for partition, rows in sorted(status.lag_rows.items()):
        yield Value(catalogue.LAG_ROWS, (status.sink, str(partition)), rows)
    for partition, seconds in sorted(status.lag_seconds.items()):
        yield Value(catalogue.LAG_SECONDS, (status.sink, str(partition)), seconds)
    for phase, milliseconds in sorted(status.phases_ms.items()):
        yield Value(catalogue.BATCH_PHASE, (status.sink, phase), milliseconds / 1000)


def _state(status: QueryStatus) -> Iterator[Value]:
    for state in QueryState:
        yield Value(catalogue.QUERY_STATE, (status.sink, state.value), float(status.state is state))


def _life(status: QueryStatus) -> Iterator[Value]:
    sink = status.sink
    yield Value(catalogue.QUERY_START, (sink,), status.started_at.timestamp())
    if status.last_batch_at is not None:
        yield Value(catalogue.LAST_SUCCESS, (sink,), status.last_batch_at.timestamp())
    if status.batch_duration_ms is not None:
        yield Value(catalogue.BATCH_DURATION, (sink,), status.batch_duration_ms / 1000)
    if status.content_cache_age_seconds is not None:
        yield Value(catalogue.CONTENT_AGE, (sink,), status.content_cache_age_seconds)


def _health(components: Mapping[str, ComponentHealth]) -> Iterator[Value]:
    yield Value(catalogue.HEALTH, (), HEALTH_RATIO[judge(list(components.values()))])
    for name, component in components.items():
        yield Value(catalogue.COMPONENT_HEALTH, (name,), HEALTH_RATIO[component.reading.status])
        if component.latency_ms is not None:
            yield Value(catalogue.COMPONENT_LATENCY, (name,), component.latency_ms / 1000)
        for measured in component.reading.measured:
            yield _measured(measured)


def _measured(one: Measured) -> Value:
    metric = METRICS[one.metric]
    running, cumulative = 0, []
    for count in one.counts or ():
        running += count
        cumulative.append(float(running))
    labels = tuple(one.labels[name] for name in metric.labels)
    return Value(metric, labels, one.value, tuple(cumulative) if one.counts is not None else None)
