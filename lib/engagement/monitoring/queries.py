"""Judges the streaming queries by what they wrote about themselves. Pure: the caller passes statuses and times."""

from engagement.monitoring.health import Detail, HealthStatus, Reading
from engagement.monitoring.status import QueryState, QueryStatus, StatusBook

QUERY_PREFIX = "query:"
CRITICAL_SINKS = frozenset({"redis"})
EXPECTED_SINKS = ("redis",)
"""Queries that must be there; others are judged once they have been seen."""
STALE_SECONDS = 15.0
"""The job writes every second; a process silent for so long is taken for dead."""
STUCK_SECONDS = 90.0
"""Rows that wait for so long without a batch are stuck: the longest trigger (30 s), with room for a slow batch."""
FORGET_SECONDS = 86_400.0
"""A query nobody has run for a day is no longer part of this system."""

_STATE_HEALTH = {
    QueryState.RUNNING: HealthStatus.HEALTHY,
    QueryState.STARTING: HealthStatus.DEGRADED,
    QueryState.REBUILDING: HealthStatus.DEGRADED,
    QueryState.WAITING: HealthStatus.DEGRADED,
    QueryState.STOPPING: HealthStatus.DEGRADED,
    QueryState.STOPPED: HealthStatus.UNHEALTHY,
    QueryState.FAILED: HealthStatus.UNHEALTHY,
}


class SilenceWatch:
    """Measures how long each query has been silent.

    The writer's clock may be another machine's, so once its timestamp has been seen to move, silence is measured from
    that moment by our own clock; only before that are the two clocks compared.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, float | None]] = {}

    def silence(self, status: QueryStatus, wall: float, monotonic: float) -> float:
        """Seconds since the query last wrote, at `wall` (epoch) and `monotonic` seconds."""
        written = status.updated_at.timestamp()
        stamp, moved_at = self._seen.get(status.sink, (written, None))
        if written != stamp:
            moved_at = monotonic
        self._seen[status.sink] = (written, moved_at)
        return max(0.0, wall - written) if moved_at is None else monotonic - moved_at


def query_component(sink: str) -> str:
    """Name of the component that stands for the query of `sink`."""
    return QUERY_PREFIX + sink


def judge_query(status: QueryStatus, silent_seconds: float) -> Reading:
    """Judge one query by its silence first, then by what it says."""
    health, reason = _STATE_HEALTH[status.state], status.reason
    idle_seconds = (status.updated_at - status.progress_at).total_seconds()
    difference = status.rows.conservation_difference
    if status.state is not QueryState.STOPPED and silent_seconds > STALE_SECONDS:
        health, reason = HealthStatus.UNHEALTHY, f"no sign of life for {silent_seconds:.0f} s"
    elif health is HealthStatus.HEALTHY and idle_seconds > STUCK_SECONDS and any(status.lag_rows.values()):
        health, reason = HealthStatus.DEGRADED, f"rows wait, but no progress for {idle_seconds:.0f} s"
    elif health is HealthStatus.HEALTHY and difference:
        health, reason = HealthStatus.DEGRADED, f"{difference} rows read without an outcome"
    elif health is not HealthStatus.HEALTHY and not reason:
        reason = f"the query is {status.state}"
    return Reading(query_component(status.sink), health, reason, status.sink in CRITICAL_SINKS, _details(status))


def judge_book(book: StatusBook, silences: dict[str, float]) -> list[Reading]:
    """Judge all queries: expected ones that are absent, unreadable ones, and those that spoke; forgets old ones."""
    absent = [sink for sink in EXPECTED_SINKS if sink not in book.queries and sink not in book.unreadable]
    return [
        *(expected_query(sink, "the streaming job has never reported") for sink in absent),
        *(expected_query(sink, reason) for sink, reason in sorted(book.unreadable.items())),
        *(
            judge_query(status, silences[sink])
            for sink, status in sorted(book.queries.items())
            if sink in EXPECTED_SINKS or silences[sink] <= FORGET_SECONDS
        ),
    ]


def expected_query(sink: str, reason: str) -> Reading:
    """Return the reading of a query nothing is known about."""
    return Reading(query_component(sink), HealthStatus.UNKNOWN, reason, sink in CRITICAL_SINKS)


def _details(status: QueryStatus) -> dict[str, Detail]:
    return {"state": status.state.value, "batch_id": status.batch_id, "lag_rows": sum(status.lag_rows.values())}
