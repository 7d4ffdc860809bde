"""Freshness as a reader has it: a row is seen in PostgreSQL, and Redis is read until the row shows there.

It only reads, and takes rows as they come. A row's commit is placed at the last look that did not see it yet, so what
is measured is at most one look (50 ms) too long and never too short.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psycopg2
from psycopg2.extensions import connection as PostgresConnection
from redis.exceptions import RedisError

from engagement.errors import TransientError
from engagement.monitoring.catalogue import PROBE_FRESHNESS, PROBE_MISSES
from engagement.monitoring.health import Reading
from engagement.monitoring.measures import Recorder
from engagement.monitoring.probes import connect_to_read, not_yet
from engagement.monitoring.rules import healthy, unknown, verdict
from engagement.sinks.redis.reader import EngagementReader

LOOK_SECONDS = 0.05
CHECK_SECONDS = 1.5
"""One check's time; a row that takes longer is looked for in the next one."""
GIVE_UP_SECONDS = 10.0
MISSES = 2
"""Rows in a row that must be missed before a fault is told: a single one may be a dead letter, which never shows."""
SEARCHED = 500
"""Newest events of a content that are searched: more than the busiest one gets in a look."""


@dataclass(frozen=True)
class _Row:
    event_id: str
    content_id: str
    committed: float
    """Monotonic seconds of the last look that did not see it."""


class ReaderProbe:
    """Times one row after the other; `clock` and `sleep` are monotonic seconds."""

    interval_seconds = 1.0
    expects: Sequence[Reading] = (not_yet("reader"),)

    def __init__(
        self, database_url: str, sql: str, reader: EngagementReader, measures: Recorder,
        clock: Callable[[], float], sleep: Callable[[float], None],
    ) -> None:  # fmt: skip
        self._url, self._sql, self._reader, self._measures = database_url, sql, reader, measures
        self._clock, self._sleep = clock, sleep
        self._connection: PostgresConnection | None = None
        self._row: _Row | None = None
        self._missed = 0
        measures.add(PROBE_MISSES, 0, sink="redis")

    def check(self) -> Sequence[Reading]:
        """Look for a row, then for it in Redis, for as long as a check may take."""
        deadline = self._clock() + CHECK_SECONDS
        try:
            if self._row is None:
                self._row = self._await_row(deadline)
            if self._row is None:
                self._missed = 0  # nothing new comes, so nobody can say that it would be missed again
            else:
                self._await_sight(self._row, deadline)
        except (psycopg2.Error, RedisError, TransientError):
            self._row = None  # an outage is no slowness; the services' own components say what is away
            self.close()
            return [unknown("reader", "PostgreSQL or Redis does not answer")]
        if self._missed >= MISSES:
            return [verdict("reader", "unseen", rows=self._missed, seconds=GIVE_UP_SECONDS)]
        return [healthy("reader")]

    def close(self) -> None:
        """Close the connection, if any."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _await_row(self, deadline: float) -> _Row | None:
        """A row that was not there a look ago; None when none comes."""
        looked = self._clock()
        before = self._newest()
        while self._clock() < deadline:
            self._sleep(LOOK_SECONDS)
            now, newest = self._clock(), self._newest()
            if newest is not None and newest != before:
                return _Row(newest[0], newest[1], looked)
            looked = now
        return None

    def _await_sight(self, row: _Row, deadline: float) -> None:
        searched: object = None
        while True:
            # Newer events come first: while the first one is the same, there is nothing to search that was not there.
            newest = self._reader.get_recent_events(row.content_id, 1)
            events = self._reader.get_recent_events(row.content_id, SEARCHED) if newest != searched else []
            searched = newest
            waited = self._clock() - row.committed
            if any(event["event_id"] == row.event_id for event in events):
                self._measures.observe(PROBE_FRESHNESS, waited, sink="redis")
                self._row, self._missed = None, 0
                return
            if waited > GIVE_UP_SECONDS:
                self._measures.add(PROBE_MISSES, sink="redis")
                self._row, self._missed = None, self._missed + 1
                return
            if self._clock() >= deadline:
                return
            self._sleep(LOOK_SECONDS)

    def _newest(self) -> tuple[str, str] | None:
        if self._connection is None:
            self._connection = connect_to_read(self._url, "engagement-reader")
        with self._connection.cursor() as cursor:
            cursor.execute(self._sql)
            row = cursor.fetchone()
        return None if row is None else (str(row[0]), str(row[1]))
