"""A table of PostgreSQL that exists in a test's memory: what its stream sends, and what a backfill reads of it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from tests import builders
from tests.builders import Message
from tests.spark import frames

from engagement import schemas
from engagement.backfill.sources import without_place
from engagement.sinks.base import Chunk
from engagement.transform.changes import Changes, FramedChanges, transform_rows
from engagement.transform.content import SharedContents

DAY = datetime(2026, 11, 20, 12, tzinfo=UTC)
READ = datetime(2026, 11, 23, 15, tzinfo=UTC)

Row = dict[str, object]


@dataclass
class Seed:
    """One history of inserts, updates and deletes of ids of its own, and a schedule for stream and backfill.

    The stream sends what was committed from step `since` on, each message up to two steps late but in order. Backfills
    read the table at one step, not before `since`, and load what they read at that step or a later one.
    """

    number: int
    steps: int = 8
    rows: dict[int, Row] = field(default_factory=dict)
    read: dict[int, dict[int, Row]] = field(default_factory=dict)
    """Step at which a backfill loads -> the rows as it read them."""

    def __post_init__(self) -> None:
        self.chance = random.Random(self.number)
        self.since = self.chance.choice((0, 1, 2, 3))
        reads = [self.chance.randrange(self.since, self.steps) for _ in range(2)]
        self.loads = {(at, self.chance.randrange(at, self.steps)) for at in reads}
        self.lsn = 1_000_000 * (self.number + 1)
        self.waiting: list[tuple[int, Message]] = []
        self.versions: set[tuple[int, int]] = set()

    def step(self, now: int) -> list[Message]:
        """Change the table, let backfills read it, and give the messages that the stream delivers at this step."""
        for _ in range(self.chance.randrange(1, 5)):
            self._change(now)
        for at, load in self.loads:
            if at == now:
                # Two backfills may load at the same step; a table has each row once, so the later look stands.
                self.read.setdefault(load, {}).update({event_id: dict(row) for event_id, row in self.rows.items()})
        late = self.steps - 1 if now == self.steps - 1 else self.chance.choice((now, now, now - 1, now - 2))
        due = [message for sent, message in self.waiting if sent <= late]
        self.waiting = [(sent, message) for sent, message in self.waiting if sent > late]
        return due

    def _change(self, now: int) -> None:
        self.lsn += 8
        existing = list(self.rows)
        act = self.chance.choice("ccuud") if existing else "c"
        if act == "c":
            event_id = self.number * 1_000 + self.chance.randrange(1, 10**9) * 1_000_000
            document = builders.envelope("c", after=self._put(event_id), lsn=self.lsn)
        else:
            event_id = self.chance.choice(existing)
            before = dict(self.rows[event_id])
            if act == "u":
                document = builders.envelope("u", after=self._put(event_id), before=before, lsn=self.lsn)
            else:
                del self.rows[event_id]
                document = builders.envelope("d", before=before, lsn=self.lsn)
        if now >= self.since:
            self.waiting.append((now, builders.message(document)))
            self.versions.add((event_id, self.lsn))

    def _put(self, event_id: int) -> Row:
        moment = DAY + timedelta(days=self.chance.randrange(3), seconds=self.chance.randrange(10_000))
        self.rows[event_id] = builders.row(
            id=event_id, event_ts=f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}", duration_ms=self.chance.randrange(10**6)
        )
        return self.rows[event_id]


def table_rows(spark: SparkSession, rows: Sequence[Row]) -> DataFrame:
    """Contract TABLE_ROWS."""
    read = [
        (*(row[name] for name in ("id", "content_id", "user_id", "event_type")), _micros(str(row["event_ts"])),
         *(row[name] for name in ("duration_ms", "device", "raw_payload")), READ)
        for row in rows
    ]  # fmt: skip
    return spark.createDataFrame(read, schemas.TABLE_ROWS)


@dataclass
class History:
    """Chunks of rows that a backfill has read."""

    spark: SparkSession

    def __post_init__(self) -> None:
        content = [{**row, "publish_ts": builders.KAFKA_TS} for row in builders.CONTENT_ROWS]
        table: pa.Table = self.spark.createDataFrame(content, schemas.CONTENT).toArrow()
        self.contents = SharedContents(self.spark.sparkContext, table)

    def chunk(self, rows: Sequence[Row], name: str = "chunk_0") -> Chunk:
        """Rows of the table, as a backfill offers them to a sink."""
        ids = [int(str(row["id"])) for row in rows]
        changes = Changes(table_rows(self.spark, rows), self.contents, transform_rows)
        return Chunk(name, changes, ("event_id",), (min(ids), max(ids)))

    def streamed(self, messages: Sequence[Message], key: tuple[str, ...], name: str) -> Chunk:
        """Messages of the topic, as a backfill from Kafka offers them."""
        self._kept = frames.changes(self.spark, messages)
        return Chunk(name, FramedChanges(without_place(self._kept.frame())), key)


def _micros(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
