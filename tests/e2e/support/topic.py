"""The topic itself, read by a plain client and decoded by the reference: what a sink that keeps rows must hold."""

import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition
from tests import builders
from tests.e2e.support.processes import PATIENCE, await_that
from tests.reference.decode import Outcome, decode

COLUMNS = ("op", "version", "event_id", "content_id", "user_id", "event_type", "event_ts", "duration_ms", "device")
"""What is compared of an event, in the order of `events`."""
_SHOWN = 10
_INSERTS = 1_000
_SILENT_SECONDS = 60.0
"""Without a message. How long all of them take to decode says something about the machine only."""
_CONSUME_SECONDS = 0.1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Place = tuple[int, int]
"""Kafka partition and offset."""
Values = tuple[Any, ...]


@dataclass
class Topic:
    """What a topic holds, each message decoded once for all who compare with it."""

    bootstrap: str
    name: str
    events: dict[Place, Values] = field(default_factory=dict, init=False)
    letters: dict[Place, tuple[str | None, bytes | None]] = field(default_factory=dict, init=False)
    outcomes: Counter[str] = field(default_factory=Counter, init=False)
    """Messages by their kind, dead letters by their code."""
    newest: dict[int, tuple[tuple[int, int], Values | None]] = field(default_factory=dict, init=False)
    """Event id -> its newest version, of a move the half that gives the row anew, and what it says; None: refused."""
    inserts: deque[builders.Message] = field(default_factory=lambda: deque(maxlen=_INSERTS), init=False)
    """The newest that are valid and moved no row here."""
    _next: dict[int, int] = field(default_factory=dict, init=False)

    def read_on(self) -> None:
        """Read what is new, to the end."""
        settings = {
            "bootstrap.servers": self.bootstrap,
            "group.id": "topic-oracle",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
        }
        with closing(Consumer(settings)) as consumer:
            partitions = set(consumer.list_topics(self.name, timeout=10).topics[self.name].partitions)
            consumer.assign([TopicPartition(self.name, p, self._next.get(p, 0)) for p in partitions])
            newest = time.monotonic()
            while partitions:
                silent = time.monotonic() - newest
                assert silent < _SILENT_SECONDS * PATIENCE, (
                    f"the topic cannot be read to its end: {partitions} are left"
                )
                for message in consumer.consume(1000, timeout=_CONSUME_SECONDS):
                    newest = time.monotonic()
                    error = message.error()
                    if error is None:
                        self._take(message)
                    elif error.code() == KafkaError._PARTITION_EOF:
                        partitions.discard(message.partition())
                    else:
                        raise AssertionError(str(error))

    def _take(self, message: Message) -> None:
        place, value = (int(message.partition() or 0), int(message.offset() or 0)), message.value()
        at = _EPOCH + timedelta(milliseconds=message.timestamp()[1])
        headers = tuple(name for name, _ in message.headers() or [])
        outcome = decode(None if value is None else bytes(value), place[1], at, headers)
        self._next[place[0]] = place[1] + 1
        self.outcomes[outcome.code or outcome.kind] += 1
        said = None if outcome.kind == "dead_letter" else _expected(outcome)
        if said is None:
            self.letters[place] = (outcome.code, value)
        elif outcome.kind == "change":
            self.events[place] = said
            if outcome.op == "c" and not headers:
                self.inserts.append(builders.Message(value, place[1], place[0], at))
        event_id = outcome.images[0].event_id
        if event_id is not None and outcome.version is not None:
            version = (outcome.version, outcome.half)
            if event_id not in self.newest or version > self.newest[event_id][0]:
                self.newest[event_id] = (version, said)


@dataclass
class TopicOracle(ABC):
    """Compares the topic, read on at each look, with what a sink made of it."""

    topic: Topic

    @abstractmethod
    def differences(self) -> list[str]:
        """What differs from what was read of the topic."""

    def await_equality(self, limit_seconds: float) -> None:
        """Wait until the sink holds what it must. Raises: AssertionError that says what differs."""
        differences: list[str] = []

        def is_equal() -> bool:
            differences[:] = self.look()
            return not differences

        def told() -> str:
            shown = "\n  ".join(differences[:_SHOWN])
            return f"{type(self).__name__}: {len(differences)} differences:\n  {shown}"

        await_that(is_equal, limit_seconds, told)

    def look(self) -> list[str]:
        """What differs now."""
        self.topic.read_on()
        return self.differences()


def _expected(outcome: Outcome) -> Values:
    row = outcome.images[0]
    moment = None if row.event_ts_micros is None else _EPOCH + timedelta(microseconds=row.event_ts_micros)
    fields = (row.event_id, row.content_id, row.user_id, row.event_type, moment, row.duration_ms, row.device)
    return (outcome.op, outcome.version, *fields)


@dataclass
class Added:
    """A table to which rows are only added: those that were seen to be as they must are not looked at again."""

    what: str
    _held: dict[Place, Values] = field(default_factory=dict, init=False)

    def beyond(self) -> dict[int, int]:
        """Kafka partition -> the last offset that was seen."""
        last: dict[int, int] = {}
        for partition, offset in self._held:
            last[partition] = max(offset, last.get(partition, 0))
        return last

    def differences(self, expected: dict[Place, Values], rows: list[tuple[Place, Values]], total: int) -> list[str]:
        """What differs, of the rows beyond those seen before and of the number of all rows."""
        found = compare(self.what, {p: v for p, v in expected.items() if p not in self._held}, rows)
        if not found:
            self._held |= dict(rows)
            if total != len(self._held):
                found.append(f"{total} rows for {len(self._held)} {self.what}s")
        return found


def compare(what: str, expected: dict[Place, Values], rows: list[tuple[Place, Values]]) -> list[str]:
    """What is lost, doubled, other than it should be, or should not be there."""
    found = dict(rows)
    both = expected.keys() & found.keys()
    return [
        *([f"{len(rows) - len(found)} {what}s are doubled"] if len(rows) > len(found) else []),
        *(f"{what} {place} is lost" for place in expected.keys() - both),
        *(f"{what} {place} should not be there" for place in found.keys() - both),
        *(
            f"{what} {place} is {found[place]}, not {expected[place]}"
            for place in both
            if found[place] != expected[place]
        ),
    ]
