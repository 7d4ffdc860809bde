"""A topic as lists of rows beside a real Redis: what a rebuild reads, micro-batches without Spark, and who is told."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import pyarrow as pa
from pyspark.sql import Row as SparkRow
from tests.contract.redis_support import IDENTITY, Row, to_batch

from engagement.identity import OffsetRange
from engagement.sinks.base import CommitTimes, PartitionSummary
from engagement.sinks.redis.client import RedisOptions
from engagement.sinks.redis.rebuild import Recount
from engagement.sinks.redis.sink import RedisSink
from engagement.transform.changes import Changes, Task

SECONDS = 20.0
"""Longest wait for the keeper's thread."""


@dataclass(frozen=True)
class InProcess:
    """Changes that need no Spark (transform.changes.Changes)."""

    logs: dict[int, list[tuple[int, list[Row]]]]

    def each_partition(self, task: Task, _schema: pa.Schema) -> "Collected":
        batches = [to_batch(messages, partition) for partition, messages in self.logs.items() if messages]
        return Collected([SparkRow(**row) for batch in task(batches) for row in batch.to_pylist()])


@dataclass(frozen=True)
class Collected:
    rows: list[SparkRow]

    def collect(self) -> list[SparkRow]:
        return self.rows


def catalogue(*contents: str) -> pa.Table:
    """Contents as PostgreSQL gives them."""
    shown = {"slug": "slug", "title": "Title", "content_type": "podcast", "length_seconds": 60}
    published = datetime(2026, 11, 23, 14, 59, 58, tzinfo=UTC)
    return pa.Table.from_pylist([{"content_id": name, **shown, "publish_ts": published} for name in contents])


def _nothing() -> None:
    pass


@dataclass
class Topic:
    """What a rebuild asks for (rebuild.History)."""

    logs: dict[int, list[list[Row]]]
    topic_id: str = "topic"
    first: int = 0
    """Offset of every partition's first message, and where what a rebuild reads begins."""
    adopted: int = 0
    contents: tuple[str, ...] = ("a",)
    on_adopt: Callable[[], None] = _nothing

    def topic(self) -> tuple[str, str]:
        return "events", self.topic_id

    def partitions(self) -> Sequence[int]:
        return sorted(self.logs)

    def offsets_at(self, _epoch_ms: int) -> dict[int, int]:
        return dict.fromkeys(self.logs, self.first)

    def ends(self) -> dict[int, int]:
        return {partition: self.first + len(log) for partition, log in self.logs.items()}

    def recounted(self) -> Recount:
        return Recount(self.changes, self._adopt, catalogue(*self.contents))

    def changes(self, ranges: Sequence[OffsetRange]) -> Changes:
        numbered = {
            part.partition: [(at, self.logs[part.partition][at - self.first]) for at in range(part.start, part.end)]
            for part in ranges
        }
        return cast("Changes", InProcess(numbered))

    def _adopt(self) -> None:
        self.adopted += 1
        self.on_adopt()


@dataclass
class Observer:
    """Told of rebuilds, and of what can be seen (reporting.Observer)."""

    reasons: list[str] = field(default_factory=list)
    visible_times: list[CommitTimes] = field(default_factory=list)
    done: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def visible(self, times: Sequence[CommitTimes]) -> None:
        self.visible_times += times

    def rebuilding(self, reason: str) -> None:
        self.reasons.append(reason)

    def rebuilt(self) -> None:
        self.done.release()

    def alarm(self, text: str) -> None: ...

    def await_rebuild(self) -> str:
        assert self.done.acquire(timeout=SECONDS), "nobody counted again"
        return self.reasons[-1]


@contextmanager
def opened(options: RedisOptions, topic: Topic, observer: Observer) -> Iterator[RedisSink]:
    """A sink whose keeper runs; a missing shard is rebuilt."""
    sink = RedisSink(options, topic, observer, "app")
    sink.open()
    try:
        yield sink
    finally:
        sink.close()


def deliver(sink: RedisSink, topic: Topic, *spans: tuple[int, int, int]) -> list[PartitionSummary]:
    """A micro-batch of (partition, start, end)."""
    ranges: list[Any] = [OffsetRange("events", *span) for span in spans]
    return sink.deliver(topic.changes(ranges), ranges, IDENTITY, final=False)
