"""Judges the streaming queries by what they wrote about themselves. Pure: the caller passes statuses and times."""

from collections.abc import Mapping
from dataclasses import replace

from engagement.monitoring.catalogue import STATUS_AGE
from engagement.monitoring.health import Reading
from engagement.monitoring.measures import measured
from engagement.monitoring.rules import (
    EXPECTED_SINKS,
    FORGET_SECONDS,
    LEAST_ROWS,
    PROMISE_SECONDS,
    QUERY_PREFIX,
    STALE_SECONDS,
    STUCK_SECONDS,
    Found,
    healthy,
    unknown,
    verdict,
)
from engagement.monitoring.status import ENDED, QueryState, QueryStatus, StatusBook


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
    """Judge one query by its silence first, then by its state, then by how it does its work."""
    component, found = query_component(status.sink), _found(status, silent_seconds)
    if status.state not in ENDED and silent_seconds > STALE_SECONDS:
        return verdict(component, "dead", found, seconds=silent_seconds)
    if status.state is not QueryState.RUNNING:
        return verdict(component, status.state.value, found, own=status.reason)
    return _judge_work(status, component, found)


def _judge_work(status: QueryStatus, component: str, found: Found) -> Reading:
    idle_seconds = (status.updated_at - status.progress_at).total_seconds()
    if idle_seconds > STUCK_SECONDS and any(status.lag_rows.values()):
        return verdict(component, "stuck", found, seconds=idle_seconds)
    if difference := status.rows.conservation_difference:
        return verdict(component, "lossy", found, rows=difference)
    if status.refused:
        return verdict(component, "refusing", found, own=status.refused.reason)
    recent, promise = status.freshness.recent, PROMISE_SECONDS.get(status.sink)
    late = recent.p99_seconds or 0.0
    if promise is not None and recent.count >= LEAST_ROWS and late > promise:
        return verdict(component, "late", found, seconds=late, promise=promise)
    return healthy(component, found)


def remembered(book: StatusBook, silences: Mapping[str, float]) -> StatusBook:
    """Return the book without the queries that nobody has run for a day; expected ones stay."""
    kept = {s: q for s, q in book.queries.items() if s in EXPECTED_SINKS or silences[s] <= FORGET_SECONDS}
    return replace(book, queries=kept)


def judge_book(book: StatusBook, silences: Mapping[str, float]) -> list[Reading]:
    """Judge all queries: expected ones that are absent, unreadable ones, and those that spoke."""
    absent = [sink for sink in EXPECTED_SINKS if sink not in book.queries and sink not in book.unreadable]
    return [
        *(unknown(query_component(sink), "the streaming job has never reported") for sink in absent),
        *(unknown(query_component(sink), reason) for sink, reason in sorted(book.unreadable.items())),
        *(judge_query(status, silences[sink]) for sink, status in sorted(book.queries.items())),
    ]


def speaks_now(reading: Reading | None) -> bool:
    """Whether what a query's status says can be taken for what is now: one that stands still goes on saying why."""
    found = reading.measured if reading else ()
    return any(one.metric == STATUS_AGE.name and one.value <= STALE_SECONDS for one in found)


def _found(status: QueryStatus, silent_seconds: float) -> Found:
    details = {
        "state": status.state.value, "batch_id": status.batch_id, "lag_rows": sum(status.lag_rows.values())
    }  # fmt: skip
    return Found(details, (measured(STATUS_AGE, silent_seconds, sink=status.sink),))
