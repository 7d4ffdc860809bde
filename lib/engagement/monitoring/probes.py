"""The probes: read-only questions to PostgreSQL, Kafka, Connect and Redis, each with a time limit of its own.

Constructors open nothing. Reasons come from a table instead of quoting errors, which may name users and addresses.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg2
import requests
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from psycopg2.extensions import connection as PostgresConnection
from redis import Redis
from redis.exceptions import RedisError

from engagement.monitoring.health import Clocks, HealthStatus, ProbeError, Reading
from engagement.monitoring.queries import EXPECTED_SINKS, SilenceWatch, expected_query, judge_book
from engagement.monitoring.status import StatusBook, read_book

ANSWER_SECONDS = 2
SLOT_LAG_LIMIT_BYTES = 1 << 30
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


def _unknown(component: str) -> Reading:
    return Reading(component, HealthStatus.UNKNOWN, FIRST_CHECK)


class PostgresProbe:
    """Asks PostgreSQL for its logical replication slots; `sql` gives slot_name, active, wal_status, two sizes."""

    interval_seconds = PAUSE_SECONDS
    expects: Sequence[Reading] = (_unknown("postgres"), _unknown("replication_slot"))

    def __init__(self, database_url: str, sql: str) -> None:
        self._url, self._sql = database_url, sql
        self._connection: PostgresConnection | None = None

    def check(self) -> Sequence[Reading]:
        """Read the slots in a session that cannot write; connects again after a failure."""
        try:
            rows = self._query()
        except psycopg2.Error as error:
            self.close()
            raise ProbeError(explain(error)) from error
        return [Reading("postgres", HealthStatus.HEALTHY), judge_slots(rows)]

    def close(self) -> None:
        """Close the connection, if any."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _query(self) -> list[Mapping[str, Any]]:
        if self._connection is None:
            self._connection = psycopg2.connect(
                self._url,
                connect_timeout=ANSWER_SECONDS,
                application_name="engagement-health",
                options=f"-c default_transaction_read_only=on -c statement_timeout={ANSWER_SECONDS * 1000}",
                keepalives_idle=ANSWER_SECONDS,
                tcp_user_timeout=ANSWER_SECONDS * 1000,
            )
            self._connection.autocommit = True
        with self._connection.cursor() as cursor:
            cursor.execute(self._sql)
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def judge_slots(slots: Sequence[Mapping[str, Any]]) -> Reading:
    """Judge the slot that is furthest behind; without a slot, changes are not kept for us."""
    if not slots:
        return Reading("replication_slot", HealthStatus.UNHEALTHY, "there is no logical replication slot")
    slot = max(slots, key=lambda row: row["lag_bytes"] or 0)
    details = {key: slot[key] for key in ("slot_name", "active", "wal_status", "lag_bytes", "retained_bytes")}
    status, reason = HealthStatus.HEALTHY, ""
    if slot["wal_status"] == "lost":
        status, reason = HealthStatus.UNHEALTHY, "the slot is lost: changes are missing, run reconcile --repair"
    elif not slot["active"]:
        status, reason = HealthStatus.DEGRADED, "nobody reads the slot"
    elif (slot["lag_bytes"] or 0) > SLOT_LAG_LIMIT_BYTES:
        status, reason = HealthStatus.DEGRADED, "the reader is more than 1 GiB behind"
    return Reading("replication_slot", status, reason, details=details)


class KafkaProbe:
    """Asks the brokers for the topic's partitions; `client_config` is librdkafka's (servers and security)."""

    interval_seconds = PAUSE_SECONDS
    expects: Sequence[Reading] = (_unknown("kafka"),)

    def __init__(self, client_config: Mapping[str, str], topic: str) -> None:
        self._config: dict[str, str | int | float | bool] = {
            **client_config,
            "log_level": "0",
            "reconnect.backoff.max.ms": "1000",
            "socket.timeout.ms": str(ANSWER_SECONDS * 1000),
        }
        self._topic = topic
        self._client: AdminClient | None = None

    def check(self) -> Sequence[Reading]:
        """Read the topic's metadata; asking never creates it."""
        if self._client is None:
            self._client = AdminClient(self._config)
        try:
            # All topics, not this one: a request that names a topic may create it on brokers that allow that.
            metadata = self._client.list_topics(timeout=ANSWER_SECONDS)
        except KafkaException as error:
            raise ProbeError(explain(error)) from error
        topic = metadata.topics.get(self._topic)
        leaders = [partition.leader for partition in topic.partitions.values()] if topic else []
        return [judge_topic(leaders, len(metadata.brokers))]

    def close(self) -> None:
        """Drop the client; librdkafka closes its connections with it."""
        self._client = None


def judge_topic(leaders: Sequence[int], brokers: int) -> Reading:
    """Judge the topic by the leaders of its partitions (-1: none), empty when there is no topic."""
    details = {"brokers": brokers, "partitions": len(leaders)}
    headless = sum(leader < 0 for leader in leaders)
    if not leaders:
        return Reading("kafka", HealthStatus.UNHEALTHY, "the topic does not exist", details=details)
    if headless:
        return Reading("kafka", HealthStatus.UNHEALTHY, f"{headless} partitions have no leader", details=details)
    return Reading("kafka", HealthStatus.HEALTHY, details=details)


class ConnectProbe:
    """Asks Kafka Connect for the state of its connectors and their tasks."""

    interval_seconds = PAUSE_SECONDS
    expects: Sequence[Reading] = (_unknown("connect"),)

    def __init__(self, connect_url: str) -> None:
        self._url = f"{connect_url.rstrip('/')}/connectors"
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy made for the internet must not see, or break, an inside address

    def check(self) -> Sequence[Reading]:
        """Read all states with one request."""
        try:
            answer = self._session.get(self._url, params={"expand": "status"}, timeout=ANSWER_SECONDS)
            answer.raise_for_status()
            return [judge_connectors(answer.json())]
        except requests.RequestException as error:
            raise ProbeError(explain(error)) from error

    def close(self) -> None:
        """Close kept connections."""
        self._session.close()


def judge_connectors(answer: Mapping[str, Any]) -> Reading:
    """Judge by the worst state among connectors and tasks; a trace in the answer is never repeated."""
    statuses = [entry["status"] for entry in answer.values()]
    connectors = [status["connector"]["state"] for status in statuses]
    tasks = [task["state"] for status in statuses for task in status["tasks"]]
    details = {"connector": ", ".join(connectors), "tasks": ", ".join(tasks)}
    if not connectors:
        return Reading("connect", HealthStatus.UNHEALTHY, "no connector is registered", details=details)
    states = {*connectors, *tasks}
    if "FAILED" in states:
        return Reading("connect", HealthStatus.UNHEALTHY, "a connector or task has failed", details=details)
    if not tasks:
        return Reading("connect", HealthStatus.DEGRADED, "the connector has no task yet", details=details)
    others = sorted(states - {"RUNNING"})
    status = HealthStatus.DEGRADED if others else HealthStatus.HEALTHY
    return Reading("connect", status, f"in state {', '.join(others)}" if others else "", details=details)


class RedisProbe:
    """Reads the status of the queries from Redis, which shows by answering that it lives; `book` keeps the newest."""

    interval_seconds = 1.0  # as often as the job writes: the page shows these numbers

    def __init__(self, client: Redis, clocks: Clocks) -> None:
        self._client, self._clocks = client, clocks
        self._watch = SilenceWatch()
        self.book = StatusBook({}, {})

    @property
    def expects(self) -> Sequence[Reading]:
        """Redis and the queries that must be there."""
        return [_unknown("redis"), *(expected_query(sink, FIRST_CHECK) for sink in EXPECTED_SINKS)]

    def check(self) -> Sequence[Reading]:
        """Read the hash and judge each query."""
        try:
            book = read_book(self._client)
        except (RedisError, OSError) as error:
            raise ProbeError(explain(error)) from error
        wall, monotonic = self._clocks.wall(), self._clocks.monotonic()
        silences = {sink: self._watch.silence(status, wall, monotonic) for sink, status in book.queries.items()}
        self.book = book
        return [Reading("redis", HealthStatus.HEALTHY), *judge_book(book, silences)]

    def close(self) -> None:
        """Close the client's connections."""
        self._client.close()
