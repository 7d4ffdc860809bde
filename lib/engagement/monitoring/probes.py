"""The probes of PostgreSQL and Redis: read-only questions, each with a time limit of its own.

Constructors open nothing. Reasons come from a table instead of quoting errors, which may name users and addresses.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg2
from psycopg2.extensions import connection as PostgresConnection
from redis import Redis
from redis.exceptions import RedisError

from engagement.monitoring.catalogue import SLOT_LAG, SLOT_RETAINED
from engagement.monitoring.health import Clocks, ProbeError, Reading
from engagement.monitoring.measures import ProcessMeasures, measured, read_measures
from engagement.monitoring.queries import SilenceWatch, judge_book, query_component, remembered
from engagement.monitoring.rules import EXPECTED_SINKS, SLOT_LAG_BYTES, Found, healthy, unknown, verdict
from engagement.monitoring.status import StatusBook, read_book

ANSWER_SECONDS = 2
PAUSE_SECONDS = 2.0
FIRST_CHECK = "not checked yet"

_PHRASES = {
    "refused": "connection refused",
    "timed out": "no answer in time",
    "timeout": "no answer in time",
    "authentication": "login refused",
    "password": "login refused",
    "starting up": "starting up",
    "loading": "loading its data",
    "shutting down": "shutting down",
    "terminating connection": "shutting down",
    "closed": "connection closed",
    "reset": "connection closed",
    "resolve": "address unknown",
    "name or service": "address unknown",
    "brokers are down": "no broker answers",
    "transport": "no broker answers",
}


def explain(error: Exception) -> str:
    """Say in a few safe words what went wrong.

    >>> explain(ConnectionError("Error 111 connecting to 10.0.0.7:6379. Connection refused."))
    'connection refused'
    """
    text = str(error).lower()
    return next((phrase for key, phrase in _PHRASES.items() if key in text), f"failed ({type(error).__name__})")


def not_yet(component: str) -> Reading:
    """What a component is before its first check."""
    return unknown(component, FIRST_CHECK)


class PostgresProbe:
    """Asks PostgreSQL for the logical replication slot `slot`; `sql` gives name, state and sizes of each there is."""

    interval_seconds = PAUSE_SECONDS
    expects: Sequence[Reading] = (not_yet("postgres"), not_yet("replication_slot"))

    def __init__(self, database_url: str, sql: str, slot: str) -> None:
        self._url, self._sql, self._slot = database_url, sql, slot
        self._connection: PostgresConnection | None = None

    def check(self) -> Sequence[Reading]:
        """Read the slots in a session that cannot write; connects again after a failure."""
        try:
            rows = self._query()
        except psycopg2.Error as error:
            self.close()
            raise ProbeError(explain(error)) from error
        return [healthy("postgres"), judge_slots(rows, self._slot)]

    def close(self) -> None:
        """Close the connection, if any."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _query(self) -> list[Mapping[str, Any]]:
        if self._connection is None:
            self._connection = connect_to_read(self._url, "engagement-health")
        with self._connection.cursor() as cursor:
            cursor.execute(self._sql)
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def connect_to_read(database_url: str, name: str) -> PostgresConnection:
    """Open a session that cannot write and gives up after two seconds. Raises: psycopg2.Error."""
    connection = psycopg2.connect(
        database_url,
        connect_timeout=ANSWER_SECONDS,
        application_name=name,
        options=f"-c default_transaction_read_only=on -c statement_timeout={ANSWER_SECONDS * 1000}",
        keepalives_idle=ANSWER_SECONDS,
        tcp_user_timeout=ANSWER_SECONDS * 1000,
    )
    connection.autocommit = True
    return connection


def judge_slots(slots: Sequence[Mapping[str, Any]], name: str) -> Reading:
    """Judge our slot, whatever others there are; without it, changes are not kept for us."""
    slot = next((row for row in slots if row["slot_name"] == name), None)
    if slot is None:
        return verdict("replication_slot", "absent")
    details = {key: slot[key] for key in ("slot_name", "active", "wal_status", "lag_bytes", "retained_bytes")}
    sizes = ((SLOT_LAG, slot["lag_bytes"]), (SLOT_RETAINED, slot["retained_bytes"]))
    found = Found(details, tuple(measured(metric, size) for metric, size in sizes if size is not None))
    if slot["wal_status"] == "lost":
        return verdict("replication_slot", "lost", found)
    if not slot["active"]:
        return verdict("replication_slot", "unread", found)
    if (slot["lag_bytes"] or 0) > SLOT_LAG_BYTES:
        return verdict("replication_slot", "behind", found)
    return healthy("replication_slot", found)


class RedisProbe:
    """Reads what the jobs wrote about themselves, which shows by answering that Redis lives; keeps the newest."""

    interval_seconds = 1.0  # as often as the jobs write: the page shows these numbers

    def __init__(self, client: Redis, clocks: Clocks) -> None:
        self._client, self._clocks = client, clocks
        self._watch = SilenceWatch()
        self.book = StatusBook({}, {})
        self.measures: Mapping[str, ProcessMeasures] = {}

    @property
    def expects(self) -> Sequence[Reading]:
        """Redis and the queries that must be there."""
        return [not_yet("redis"), *(not_yet(query_component(sink)) for sink in EXPECTED_SINKS)]

    def check(self) -> Sequence[Reading]:
        """Read both hashes and judge each query."""
        try:
            book, measures = read_book(self._client), read_measures(self._client)
        except (RedisError, OSError) as error:
            raise ProbeError(explain(error)) from error
        wall, monotonic = self._clocks.wall(), self._clocks.monotonic()
        silences = {sink: self._watch.silence(status, wall, monotonic) for sink, status in book.queries.items()}
        # Metrics and page are made of this book too: an alert about a query that is forgotten would never end.
        self.book, self.measures = remembered(book, silences), measures
        return [healthy("redis"), *judge_book(self.book, silences)]

    def close(self) -> None:
        """Close the client's connections."""
        self._client.close()
