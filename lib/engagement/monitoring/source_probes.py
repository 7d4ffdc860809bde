"""The probes of Kafka and Connect, and whether the connector still writes: Connect may say RUNNING and hang."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import requests
from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka import admin as kafka_admin

from engagement.monitoring.catalogue import CONNECT_TASKS, OPEN_TRANSACTION, SOURCE_SILENCE
from engagement.monitoring.health import ProbeError, Reading
from engagement.monitoring.measures import Measured, measured
from engagement.monitoring.probes import ANSWER_SECONDS, PAUSE_SECONDS, explain, not_yet
from engagement.monitoring.rules import (
    HELD_UP_SECONDS,
    QUIET_SECONDS,
    SILENT_SECONDS,
    Found,
    healthy,
    verdict,
)

HEARTBEAT_TOPIC = "__debezium-heartbeat.engagement"
"""Debezium's name for it: `topic.heartbeat.prefix` and `topic.prefix` of conf/debezium/engagement.json."""

Place = tuple[str, int]
"""Topic and partition."""
Answers = Mapping[TopicPartition, "Future[Any]"]
"""Where partitions end, once the brokers have answered."""


class KafkaProbe:
    """Asks the brokers for the topic and where its partitions end; `client_config` is librdkafka's."""

    interval_seconds = PAUSE_SECONDS
    expects: Sequence[Reading] = (not_yet("kafka"), not_yet("source"))

    def __init__(self, client_config: Mapping[str, str], topic: str, monotonic: Callable[[], float]) -> None:
        self._config: dict[str, str | int | float | bool] = {
            **client_config,
            "log_level": "0",
            "reconnect.backoff.max.ms": "1000",
            "socket.timeout.ms": str(ANSWER_SECONDS * 1000),
        }
        self._topic = topic
        self._pulse, self._open = Pulse(monotonic), OpenTransactions(monotonic)
        self._client: kafka_admin.AdminClient | None = None

    def check(self) -> Sequence[Reading]:
        """Read metadata and end offsets; asking never creates a topic."""
        if self._client is None:
            self._client = kafka_admin.AdminClient(self._config)
        try:
            # All topics, not this one: a request that names a topic may create it on brokers that allow that.
            metadata = self._client.list_topics(timeout=ANSWER_SECONDS)
            leaders = {
                name: [partition.leader for partition in metadata.topics[name].partitions.values()]
                for name in (self._topic, HEARTBEAT_TOPIC)
                if name in metadata.topics
            }
            own = leaders.get(self._topic, [])
            # Asked at the same time: one answer after the other could take longer than a probe may.
            asked = self._ask(leaders), self._ask({self._topic: own}, IsolationLevel.READ_COMMITTED)
            ends, committed = map(_offsets, asked)
            held_up = self._open.seconds({place: (offset, ends[place]) for place, offset in committed.items()})
            kafka = judge_topic(own, len(metadata.brokers), held_up)
            if HEARTBEAT_TOPIC not in leaders:
                return [kafka, healthy("source", reason="not watched: there is no heartbeat topic")]
            silence = self._pulse.silence(sum(ends.values()))  # it grows with whatever the connector writes
        except KafkaException as error:
            raise ProbeError(explain(error)) from error
        return [kafka, judge_source(silence)]

    def close(self) -> None:
        """Drop the client; librdkafka closes its connections with it."""
        self._client = None

    def _ask(
        self,
        leaders: Mapping[str, Sequence[int]],
        isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
    ) -> Answers:
        """Ask where the partitions end that have a leader."""
        assert self._client is not None  # noqa: S101 - for the type checker
        spec: Any = kafka_admin  # its own package does not list OffsetSpec as public
        asked = {
            TopicPartition(topic, partition): spec.OffsetSpec.latest()
            for topic, partitions in leaders.items()
            for partition, leader in enumerate(partitions)
            if leader >= 0
        }
        if not asked:
            return {}
        return self._client.list_offsets(asked, isolation_level=isolation, request_timeout=ANSWER_SECONDS)


def _offsets(answers: Answers) -> dict[Place, int]:
    return {(place.topic, place.partition): answer.result(ANSWER_SECONDS).offset for place, answer in answers.items()}


class Pulse:
    """How long a number that should move has not moved; `monotonic` is our own clock, in seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._seen: tuple[int, float] | None = None

    def silence(self, number: int) -> float:
        """Seconds since it last changed; 0 the first time."""
        now = self._monotonic()
        if self._seen is None or self._seen[0] != number:
            self._seen = (number, now)
        return now - self._seen[1]


class OpenTransactions:
    """How long readers of committed messages have stood still before what is written and not committed."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._seen: dict[Place, tuple[int, float]] = {}

    def seconds(self, ends: Mapping[Place, tuple[int, int]]) -> float:
        """Of the partition where it is longest; `ends`: where committed messages end, and where all do."""
        now = self._monotonic()
        waiting = {place: committed for place, (committed, end) in ends.items() if committed < end}
        before = {place: self._seen.get(place, (committed, now)) for place, committed in waiting.items()}
        self._seen = {
            place: (committed, before[place][1] if before[place][0] == committed else now)
            for place, committed in waiting.items()
        }
        return max((now - since for _, since in self._seen.values()), default=0.0)


def judge_source(silent_seconds: float) -> Reading:
    """Judge the connector by how long it has written nothing at all."""
    found = Found({"silent_seconds": round(silent_seconds, 1)}, (measured(SOURCE_SILENCE, silent_seconds),))
    if silent_seconds > SILENT_SECONDS:
        return verdict("source", "silent", found, seconds=silent_seconds)
    if silent_seconds > QUIET_SECONDS:
        return verdict("source", "quiet", found, seconds=silent_seconds)
    return healthy("source", found)


def judge_topic(leaders: Sequence[int], brokers: int, held_up_seconds: float = 0.0) -> Reading:
    """Judge the topic by the leaders of its partitions (-1: none), empty when there is no topic, and by its readers."""
    details = {"brokers": brokers, "partitions": len(leaders)}
    found = Found(details, (measured(OPEN_TRANSACTION, held_up_seconds),))
    headless = sum(leader < 0 for leader in leaders)
    if not leaders:
        return verdict("kafka", "no topic", found)
    if headless:
        return verdict("kafka", "no leader", found, count=headless)
    if held_up_seconds > HELD_UP_SECONDS:
        return verdict("kafka", "held up", found, seconds=held_up_seconds)
    return healthy("kafka", found)


class ConnectProbe:
    """Asks Kafka Connect for the state of the connector `name` and its tasks."""

    interval_seconds = PAUSE_SECONDS
    expects: Sequence[Reading] = (not_yet("connect"),)

    def __init__(self, connect_url: str, name: str) -> None:
        self._url, self._name = f"{connect_url.rstrip('/')}/connectors", name
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy made for the internet must not see, or break, an inside address

    def check(self) -> Sequence[Reading]:
        """Read all states with one request."""
        try:
            answer = self._session.get(self._url, params={"expand": "status"}, timeout=ANSWER_SECONDS)
            answer.raise_for_status()
            return [judge_connector(answer.json(), self._name)]
        except requests.RequestException as error:
            raise ProbeError(explain(error)) from error

    def close(self) -> None:
        """Close kept connections."""
        self._session.close()


def judge_connector(answer: Mapping[str, Any], name: str) -> Reading:
    """Judge our connector, whatever others there are, by its worst part; a trace in the answer is never repeated."""
    statuses = [answer[name]["status"]] if name in answer else []
    connectors = [status["connector"]["state"] for status in statuses]
    tasks = [task["state"] for status in statuses for task in status["tasks"]]
    details = {"connector": ", ".join(connectors), "tasks": ", ".join(tasks)}
    found = Found(details, (*_counted("connector", connectors), *_counted("task", tasks)))
    if not connectors:
        return verdict("connect", "no connector", found)
    states = {*connectors, *tasks}
    if "FAILED" in states:
        return verdict("connect", "failed", found)
    if not tasks:
        return verdict("connect", "no task", found)
    others = ", ".join(sorted(states - {"RUNNING"}))
    return verdict("connect", "other state", found, states=others) if others else healthy("connect", found)


def _counted(kind: str, states: Sequence[str]) -> tuple[Measured, ...]:
    # Running and failed are always told, so that a rule on them never loses its series.
    counts = Counter({"RUNNING": 0, "FAILED": 0})
    counts.update(states)
    return tuple(measured(CONNECT_TASKS, count, kind=kind, state=state.lower()) for state, count in counts.items())
