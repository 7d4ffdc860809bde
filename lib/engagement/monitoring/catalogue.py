"""Every metric this project has: name, type, unit, labels and meaning. Nothing here measures anything.

The API exports it, as JSON and as Prometheus text; rules and dashboards in conf/ are written from it. To add one:

1. a line below (unit in the name, labels from LABELS, `always=False` unless every running job has it), and
2. where it happens: `measures.set(catalogue.X, value, sink="lake")`, `.add(…)` or `.observe(…)` on the process's
   `Measures` (measures.py), which reach the API through Redis. What nobody measured is not shown.
"""

from dataclasses import dataclass
from typing import Literal

PREFIX = "engagement_"
LABELS = frozenset({"sink", "outcome", "code", "partition", "phase", "state", "component", "process", "kind", "status"})
"""Closed sets, small; never the id of a user, content or event."""


@dataclass(frozen=True)
class Metric:
    """One metric; counters are exported with `_total` behind the name, histograms as buckets, sum and count."""

    short_name: str
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    labels: tuple[str, ...] = ()
    always: bool = True
    """Whether every running job has it; the others need an event that is rare, a sink or a command."""

    @property
    def name(self) -> str:
        """The family's name, as /metrics shows it."""
        return PREFIX + self.short_name

    @property
    def sample(self) -> str:
        """The name to use in a query; of a histogram, its buckets."""
        return self.name + {"counter": "_total", "gauge": "", "histogram": "_bucket"}[self.kind]


def _counter(name: str, text: str, *labels: str, always: bool = True) -> Metric:
    return Metric(name, "counter", text, labels, always)


def _gauge(name: str, text: str, *labels: str, always: bool = True) -> Metric:
    return Metric(name, "gauge", text, labels, always)


def _histogram(name: str, text: str, *labels: str, always: bool = True) -> Metric:
    return Metric(name, "histogram", text, labels, always)


# What became of the messages; every total begins at 0 with the query (`query_start_timestamp_seconds`).
READ_ROWS = _counter("read_rows", "Messages read from Kafka.", "sink")
PROCESSED_ROWS = _counter("processed_rows", "Messages by outcome; together those read.", "sink", "outcome")
CONSERVATION = _gauge("conservation_difference_rows", "Rows read that have no outcome; must stay 0.", "sink")
DEAD_LETTER_ROWS = _counter(
    "dead_letter_rows", "Dead letters by the check that refused them.", "sink", "code", always=False
)
LATE_ROWS = _counter("late_rows", "Events older than the window when they arrived.", "sink")
REPEAT_ROWS = _counter("repeat_rows", "Changes the source sent a second time.", "sink")
TRUNCATIONS = _counter("truncations", "Times the source's table was emptied by TRUNCATE, which no row follows.", "sink")
REBUILDS = _counter("rebuilds", "Times the sink's content was built anew.", "sink")
RETRIES = _counter("retries", "Times a micro-batch had to be tried again, or its query started again.", "sink")
DROPPED_RECORDS = _counter("dropped_records", "Measurements of a wrong type, left out: a defect of ours.", "sink")

# How fresh, how far behind.
FRESHNESS = _histogram("freshness_seconds", "From commit to visible in the sink, of each real event.", "sink")
PROBE_FRESHNESS = _histogram(
    "probe_freshness_seconds", "From commit to seen by a reader who looks for the newest row.", "sink"
)
PROBE_MISSES = _counter("probe_missed_rows", "Rows that the reader did not find in time.", "sink")
LAG_ROWS = _gauge("lag_rows", "Messages in Kafka not yet taken.", "sink", "partition")
LAG_SECONDS = _gauge("lag_seconds", "How long the oldest of them has been waiting.", "sink", "partition")
INPUT_RATE = _gauge("input_rows_per_second", "Messages read per second, over the last 10 s.", "sink")

# The life of the queries.
QUERY_STATE = _gauge("query_state_info", "1 for the state that the query is in.", "sink", "state")
QUERY_START = _gauge("query_start_timestamp_seconds", "When the query started.", "sink")
LAST_SUCCESS = _gauge("last_success_timestamp_seconds", "When it last finished a micro-batch.", "sink")
STATUS_AGE = _gauge(
    "status_age_seconds", "Time since the query last wrote its status, by the clock of whoever reads it.", "sink"
)
BATCH_DURATION = _gauge("batch_duration_seconds", "Time its last micro-batch took to deliver.", "sink")
BATCH_PHASE = _gauge(
    "batch_phase_seconds", "Time its last micro-batch spent in each of Spark's phases.", "sink", "phase"
)
CONTENT_AGE = _gauge("content_cache_age_seconds", "Age of the content used to enrich.", "sink")

# What it all runs on.
HEALTH = _gauge("health_ratio", "The whole: 1 healthy, 0.5 degraded, 0 unhealthy.")
COMPONENT_HEALTH = _gauge("component_health_ratio", "Each component: as above, unknown counts as 0.", "component")
COMPONENT_LATENCY = _gauge("component_latency_seconds", "Time its last check took.", "component")
SLOT_LAG = _gauge("replication_slot_lag_bytes", "WAL that the connector has not confirmed.")
SLOT_RETAINED = _gauge("replication_slot_retained_bytes", "WAL that PostgreSQL keeps for the slot.")
CONNECT_TASKS = _gauge("connect_tasks", "Connectors and tasks by state.", "kind", "state")
SOURCE_SILENCE = _gauge("source_silence_seconds", "Time since the connector last wrote anything, heartbeats included.")
OPEN_TRANSACTION = _gauge(
    "open_transaction_seconds", "How long an open transaction has held up those who read the events' topic."
)
PROCESS_MEMORY = _gauge("process_memory_bytes", "Resident memory of a process with its children.", "process")
API_RESPONSES = _counter("api_responses", "API answers by HTTP status code.", "code")
MEASURES_AGE = _gauge("measures_age_seconds", "Time since a process last wrote what it measures.", "process")

# External system: one series per breaker state; requests are those that carry events, heartbeats are not among them.
REQUESTS = _counter("requests", "Requests by what they came to.", "sink", "outcome", always=False)
REQUEST_RETRIES = _counter(
    "request_retries", "Requests that were sent again at once, with their key.", "sink", always=False
)
BREAKER_STATE = _gauge("breaker_state_info", "1 for the state of the circuit breaker.", "sink", "state", always=False)

# Commands that run beside the stream.
STORED_DEAD_LETTERS = _gauge(
    "stored_dead_letter_rows",
    "Dead letters in the lake, by who refused them (a sink, or the transform for all of them).",
    *("sink", "code", "status"),
    always=False,
)
OLDEST_DEAD_LETTER = _gauge(
    "oldest_dead_letter_timestamp_seconds", "Kafka time of the oldest that is still new.", "sink", "code", always=False
)
BACKFILL_PLANNED_ROWS = _gauge("backfill_planned_rows", "Rows the last backfill is to bring.", "sink", always=False)
BACKFILL_DONE_ROWS = _gauge("backfill_done_rows", "Of these, rows of chunks that are done.", "sink", always=False)
BACKFILL_FAILED_CHUNKS = _gauge(
    "backfill_failed_chunks", "Chunks that it gave up; the same command tries them again.", "sink", always=False
)
DRIFT_ROWS = _gauge(
    "drift_rows",
    "What the last reconcile found, by kind; uncounted: one for each range of ids that differs and was not looked at.",
    *("sink", "kind"),
    always=False,
)
RECONCILED = _gauge(
    "reconcile_timestamp_seconds", "When the sink was last compared whole, or found to differ.", "sink", always=False
)

METRICS: dict[str, Metric] = {one.name: one for one in tuple(globals().values()) if isinstance(one, Metric)}
"""All of the above by name."""
