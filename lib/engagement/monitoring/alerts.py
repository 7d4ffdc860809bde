"""Prometheus's alert rules, from the metrics of catalogue.py and the promises of rules.py: conf/prometheus/alerts.yml.

`python -m engagement.monitoring.conf_files` writes the file; a test holds it against this module, against promtool and
against a scrape of the running demo.
"""

from dataclasses import dataclass

from engagement.monitoring import catalogue as m
from engagement.monitoring.rules import HELD_UP_SECONDS, LEAST_ROWS, PROMISE_SECONDS, SLOT_LAG_BYTES

ERROR_SHARE = 0.01
BURST_ROWS = 100
"""Dead letters within a minute that are worth waking somebody, whatever their share."""

MISSES = 1.5
"""Prometheus reckons an increase up to the whole minute, so one miss comes out a little above 1, and two above 2."""

_REJECTED = f'{m.PROCESSED_ROWS.sample}{{outcome="dead_letters"}}'
"""Not the series per code: those begin with their first dead letter, and an increase from nothing is none."""


@dataclass(frozen=True)
class Alert:
    """One rule; `held` is how long it must hold, `text` may use Prometheus's templates."""

    name: str
    expression: str
    severity: str
    summary: str
    held: str = "0s"


def _p99(sink: str) -> str:
    return f'histogram_quantile(0.99, sum by (le) (rate({m.FRESHNESS.sample}{{sink="{sink}"}}[1m])))'


def _late(sink: str) -> Alert:
    promise = PROMISE_SECONDS[sink]
    enough = f'sum(increase({m.FRESHNESS.name}_count{{sink="{sink}"}}[1m])) >= {LEAST_ROWS}'
    return Alert(
        f"{sink.capitalize()}Late",
        f"{_p99(sink)} > {promise:g} and {enough}",
        "critical" if sink == "redis" else "warning",
        f"99 % of events are visible in {sink} within {{{{ $value | humanizeDuration }}}}, promised are {promise:g} s",
    )


ALERTS: tuple[Alert, ...] = (
    Alert("Unhealthy", f"{m.HEALTH.sample} == 0", "critical", "The live ranking does not work; /health says why"),
    Alert(
        "ComponentDown", f"{m.COMPONENT_HEALTH.sample} == 0", "warning",
        "{{ $labels.component }} does not work; /health says why",
    ),
    Alert("ApiGone", 'up{job="engagement"} == 0', "critical", "The monitoring API does not answer", held="10s"),
    Alert(
        "StreamGone",
        f'{m.STATUS_AGE.sample} > 8 unless on (sink) {m.QUERY_STATE.sample}{{state="stopped"}} == 1',
        "critical",
        "The query {{ $labels.sink }} has given no sign of life for {{ $value | humanizeDuration }}",
    ),
    Alert(
        "ErrorRate",
        f"sum by (sink) (rate({_REJECTED}[5m])) / sum by (sink) (rate({m.READ_ROWS.sample}[5m]))"
        f" > {ERROR_SHARE}",
        "warning", "{{ $value | humanizePercentage }} of the messages to {{ $labels.sink }} are rejected",
    ),
    Alert(
        "DeadLetterBurst", f"sum by (sink) (increase({_REJECTED}[1m])) > {BURST_ROWS}", "critical",
        "{{ $value | humanize }} messages to {{ $labels.sink }} were rejected within a minute",
    ),
    Alert(
        "Truncated", f"sum by (sink) (increase({m.TRUNCATIONS.sample}[1h])) > 0", "critical",
        "engagement_events was truncated, and {{ $labels.sink }} has its rows; reconcile --repair mends all but "
        "a ranking",
    ),
    *(_late(sink) for sink in PROMISE_SECONDS),
    Alert(
        "LagGrows", f"max by (sink) ({m.LAG_SECONDS.sample}) > 120", "warning",
        "Messages wait for {{ $labels.sink }} for {{ $value | humanizeDuration }}",
    ),
    Alert(
        "SlotLag", f"{m.SLOT_LAG.sample} > {SLOT_LAG_BYTES}", "warning",
        "The connector is {{ $value | humanize1024 }}B of WAL behind",
    ),
    Alert(
        "SlotRetainsWal", f"{m.SLOT_RETAINED.sample} > {4 * SLOT_LAG_BYTES}", "critical",
        "PostgreSQL keeps {{ $value | humanize1024 }}B of WAL for the slot; its disk will fill up",
    ),
    Alert(
        "ConnectTaskFailed", f'sum({m.CONNECT_TASKS.sample}{{state="failed"}}) > 0', "critical",
        "A task of Kafka Connect has failed",
    ),
    Alert(
        "SourceSilent", f"{m.SOURCE_SILENCE.sample} > 10", "critical",
        "The connector has written nothing for {{ $value | humanizeDuration }}, not even its heartbeat",
    ),
    Alert(
        "TransactionHangs", f"{m.OPEN_TRANSACTION.sample} > {HELD_UP_SECONDS:g}", "critical",
        "A transaction has been open for {{ $value | humanizeDuration }}; nothing that was written after it is read",
    ),
    Alert(
        "NoData", f'sum(increase({m.READ_ROWS.sample}{{sink="redis"}}[5m])) == 0', "warning",
        "Not one event came for five minutes",
    ),
    Alert(
        "SinkPaused", f'max by (sink) ({m.QUERY_STATE.sample}{{state=~"waiting|stopped|failed"}}) == 1', "warning",
        "The query {{ $labels.sink }} delivers nothing; /health says why", held="5s",
    ),
    Alert(
        "BreakerOpen", f'max by (sink) ({m.BREAKER_STATE.sample}{{state="open"}}) == 1', "warning",
        "The circuit breaker of {{ $labels.sink }} is open",
    ),
    Alert(
        "RowsUnaccounted", f"{m.CONSERVATION.sample} != 0", "critical",
        "{{ $value }} messages to {{ $labels.sink }} have no outcome: a defect",
    ),
    Alert(
        "Drift", f"sum by (sink) ({m.DRIFT_ROWS.sample}) > 0", "critical",
        "{{ $labels.sink }} differs from PostgreSQL in {{ $value }} rows at least; reconcile --repair",
    ),
    Alert(
        "BackfillFailed", f"{m.BACKFILL_FAILED_CHUNKS.sample} > 0", "warning",
        "{{ $value }} chunks of the last backfill are not in {{ $labels.sink }}; the same command tries them again",
    ),
    Alert(
        "ReaderBlind", f"increase({m.PROBE_MISSES.sample}[1m]) > {MISSES}", "warning",
        "New rows cannot be read in Redis within ten seconds",
    ),
)  # fmt: skip


def rule_file() -> dict[str, object]:
    """The content of alerts.yml."""
    rules = [
        {
            "alert": f"Engagement{alert.name}",
            "expr": alert.expression,
            **({} if alert.held == "0s" else {"for": alert.held}),
            "labels": {"severity": alert.severity},
            "annotations": {"summary": alert.summary},
        }
        for alert in ALERTS
    ]
    return {"groups": [{"name": "engagement", "rules": rules}]}
