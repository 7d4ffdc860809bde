"""Every health rule of this project, in one table: what is found, how bad it is, and how it is said.

A component is healthy when none of its rules applies. The whole is unhealthy when a component of CRITICAL is unhealthy
or unknown (those are what the live ranking cannot do without), degraded when any component is not healthy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from engagement.monitoring.health import Detail, HealthStatus, Reading
from engagement.monitoring.measures import Measured

HEALTHY, DEGRADED, UNHEALTHY = HealthStatus.HEALTHY, HealthStatus.DEGRADED, HealthStatus.UNHEALTHY

QUERY_PREFIX = "query:"
CRITICAL = frozenset({"postgres", "replication_slot", "kafka", "connect", "source", "redis", "query:redis"})
EXPECTED_SINKS = ("redis",)
"""Queries that must be there; others are judged once they have been seen."""

PROMISE_SECONDS: Mapping[str, float] = {"redis": 5.0, "warehouse": 30.0, "external": 30.0, "lake": 60.0}
"""Commit to visible, 99 % of the newest minute's events: beyond it a query is late (contract sections 5 and 7)."""
LEAST_ROWS = 20
"""Events in the newest minute below which their 99 % quantile says nothing."""
SLOT_LAG_BYTES = 1 << 30
QUIET_SECONDS = 10.0
"""The connector's heartbeat comes every 3 s, so three are missing."""
SILENT_SECONDS = 30.0
"""Longer than the connector needs to come back after its worker or PostgreSQL was killed."""
HELD_UP_SECONDS = 60.0
"""Longer than Kafka leaves a transaction open whose producer died (Connect's transaction.timeout.ms)."""
STALE_SECONDS = 8.0
"""The job writes its status every second; a process silent for so long is taken for dead."""
STUCK_SECONDS = 90.0
"""Rows that wait for so long without a batch are stuck: the longest trigger (30 s), with room for a slow batch."""
FORGET_SECONDS = 86_400.0
"""A query nobody has run for a day is no longer part of this system."""


@dataclass(frozen=True)
class Rule:
    """How bad it is, and how it is said; the text may name figures."""

    status: HealthStatus
    reason: str


# What does not answer at all needs no rule: it is unhealthy, for the reason that its probe found (health.py).
RULES: Mapping[str, Mapping[str, Rule]] = {
    "replication_slot": {
        "absent": Rule(
            UNHEALTHY,
            "our logical replication slot is not there; if it was dropped, the connector will not make it again: "
            "README, Troubleshooting, says how it does",
        ),
        "lost": Rule(
            UNHEALTHY,
            "the slot is lost: rows are missing, and the connector will not go on by itself: "
            "README, Troubleshooting, says how it does",
        ),
        "unread": Rule(DEGRADED, "nobody reads the slot"),
        "behind": Rule(DEGRADED, "the reader is more than 1 GiB behind"),
    },
    "kafka": {
        "no topic": Rule(UNHEALTHY, "the topic does not exist"),
        "no leader": Rule(UNHEALTHY, "{count} partitions have no leader"),
        "held up": Rule(
            DEGRADED,
            "a transaction has been open for {seconds:.0f} s: nothing that was written after it is read "
            "(`kafka-transactions.sh find-hanging` names it)",
        ),
    },
    "connect": {
        "no connector": Rule(UNHEALTHY, "our connector is not registered"),
        "failed": Rule(UNHEALTHY, "the connector or its task has failed"),
        "no task": Rule(DEGRADED, "the connector has no task yet"),
        "other state": Rule(DEGRADED, "in state {states}"),
    },
    "source": {
        "quiet": Rule(DEGRADED, "the connector has written nothing for {seconds:.0f} s, not even its heartbeat"),
        "silent": Rule(UNHEALTHY, "the connector has written nothing for {seconds:.0f} s, not even its heartbeat"),
    },
    "reader": {
        "unseen": Rule(DEGRADED, "the last {rows} rows could not be read in Redis within {seconds:.0f} s"),
    },
    "query": {
        "dead": Rule(UNHEALTHY, "no sign of life for {seconds:.0f} s"),
        "failed": Rule(UNHEALTHY, "the query has failed"),
        "stopped": Rule(UNHEALTHY, "the query is stopped"),
        "waiting": Rule(DEGRADED, "the query is waiting"),
        "starting": Rule(DEGRADED, "the query is starting"),
        "stopping": Rule(DEGRADED, "the query is stopping"),
        "stuck": Rule(DEGRADED, "rows wait, but no progress for {seconds:.0f} s"),
        "lossy": Rule(DEGRADED, "{rows} rows read without an outcome"),
        "refusing": Rule(DEGRADED, "a large part of a micro-batch was refused"),
        "late": Rule(DEGRADED, "99 % visible within {seconds:.1f} s, promised are {promise:.0f} s"),
    },
}
"""Component -> finding -> rule. `query` holds for each streaming query, `any` for each service that is asked."""


@dataclass(frozen=True)
class Found:
    """What goes with a verdict beside its reason."""

    details: Mapping[str, Detail] = field(default_factory=dict)
    measured: tuple[Measured, ...] = ()


def is_critical(component: str) -> bool:
    """Whether the whole is unhealthy without it."""
    return component in CRITICAL


def healthy(component: str, found: Found | None = None, reason: str = "") -> Reading:
    """None of its rules applies."""
    with_it = found or Found()
    return Reading(component, HEALTHY, reason, is_critical(component), with_it.details, with_it.measured)


def verdict(component: str, finding: str, found: Found | None = None, **figures: object) -> Reading:
    """What the table says of a finding; a query's reason of its own (`own=`) goes before the table's.

    >>> verdict("kafka", "no leader", count=2).reason
    '2 partitions have no leader'
    """
    kind = "query" if component.startswith(QUERY_PREFIX) else component
    rule, with_it = RULES[kind][finding], found or Found()
    reason = str(figures.get("own") or rule.reason.format(**figures))
    return Reading(component, rule.status, reason, is_critical(component), with_it.details, with_it.measured)


def unknown(component: str, reason: str) -> Reading:
    """Nothing is known of it."""
    return Reading(component, HealthStatus.UNKNOWN, reason, is_critical(component))
