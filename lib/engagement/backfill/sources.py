"""The three places where history can be read: PostgreSQL's table, the lake, and what Kafka still holds."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from datetime import time as day_time
from functools import reduce
from itertools import zip_longest

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from engagement.backfill.ledger import Planned
from engagement.identity import Fence, OffsetRange
from engagement.schemas import CHANGES, Kind
from engagement.session import compile_for
from engagement.sinks.base import Chunk
from engagement.sinks.delta.log import DeltaLog
from engagement.sinks.delta.tables import LakeTable
from engagement.sinks.lake.tables import EVENT_DATE, in_days
from engagement.sources.content import ContentCatalogue, ContentSnapshot
from engagement.sources.history import EventsTable, IdRange, Span
from engagement.sources.kafka import KafkaTopic, TopicPositions
from engagement.transform.changes import Changes, FramedChanges, narrow_messages

PIECE_ROWS = 50_000
"""Rows that one task reads; a chunk is as many pieces as it takes."""
_WRITERS_SECONDS = 60.0
_LOOK_SECONDS = 0.5
ONE_VERSION, ONE_EVENT = ("event_id", "version"), ("event_id",)


@dataclass
class TableSource:
    """Rows as PostgreSQL holds them now: version 0, older than any change that the stream delivers.

    Contents are read before the rows of each chunk. A row that came later with a content that came later is the
    stream's: its version, with that content, is newer than ours.
    """

    spark: SparkSession
    table: EventsTable
    catalogue: ContentCatalogue
    span: Span
    chunk_rows: int
    now: Callable[[], datetime]
    stop: threading.Event
    say: Callable[[str], None]
    _contents: ContentSnapshot | None = field(default=None, init=False)

    def identity(self) -> str:
        """Nothing: the database and the span are the ledger's name."""
        return ""

    def await_writers(self) -> Sequence[str]:
        """Wait a minute at most for transactions that had written before this began and may hold rows of the range."""
        older, deadline = self.table.open_writers(), time.monotonic() + _WRITERS_SECONDS
        while older and time.monotonic() < deadline and not self.stop.is_set():
            self.say(f"waiting for {len(older)} transaction(s) that wrote before this began and are still open")
            self.stop.wait(_LOOK_SECONDS)
            still = self.table.open_writers()
            older = {name: pid for name, pid in older.items() if name in still}
        return [f"transaction {name} (process {pid or 'none: prepared'})" for name, pid in older.items()]

    def plan(self) -> list[Planned]:
        """Ranges of ids without gaps between them, so that what is committed meanwhile is in one of them."""
        pieces = self.table.pieces(self.span, min(PIECE_ROWS, self.chunk_rows))
        following = [piece.first for piece in pieces[1:]]
        joined = [(p.first, end - 1, p.rows) for p, end in zip(pieces, following, strict=False)]
        joined += [(p.first, p.last, p.rows) for p in pieces[-1:]]
        size = max(1, self.chunk_rows // PIECE_ROWS)
        groups = [joined[at : at + size] for at in range(0, len(joined), size)]
        return [Planned(tuple(group), sum(rows for _, _, rows in group)) for group in groups]

    def chunk(self, planned: Planned, name: str) -> Chunk:
        """The chunk's rows through the transform."""
        compile_for(self.spark, planned.rows)
        pieces = [IdRange(*part) for part in planned.parts]
        self._contents = self.catalogue.load(self._contents)
        rows = self.table.copied(pieces, self.span, self.now())
        numbers = self.spark.range(0, len(pieces), 1, len(pieces))  # a task a piece
        changes = Changes(numbers, self._contents.contents, rows)
        return Chunk(name, changes, ONE_EVENT, (pieces[0].first, pieces[-1].last))


@dataclass
class LakeSource:
    """Row versions as the lake keeps them, enriched when they were delivered; none that a stream has yet to deliver.

    Rows of an earlier topic have its offsets, which say nothing of the one that is there now: what lies at or beyond
    the lake's own fence is of an earlier one, and no stream will deliver it.
    """

    spark: SparkSession
    events: LakeTable
    span: Span
    fence: Callable[[], Fence]
    """What the streams of all sinks to fill have taken."""
    own_fence: Callable[[], Fence]
    """What the lake's own stream has taken."""
    taken_of: Callable[[], str]
    """The topic and the tables of which that is told."""
    _old: DataFrame | None = field(default=None, init=False)
    """What no stream has yet to deliver, as it was when this began: to ask for the fences costs seconds."""

    def identity(self) -> str:
        """The lake's table, the topic, and the tables to fill."""
        return f"{DeltaLog(self.events).identity} {self.taken_of()}"

    def await_writers(self) -> Sequence[str]:
        """Nobody: what is committed to the lake is there."""
        return ()

    def plan(self) -> list[Planned]:
        """A chunk a day, and one of what has none: deletions whose row before told no time."""
        days = self._rows().groupBy(EVENT_DATE).count().orderBy(EVENT_DATE).collect()
        parts = [() if row[EVENT_DATE] is None else (row[EVENT_DATE].toordinal(),) for row in days]
        return [Planned((part,), row["count"]) for part, row in zip(parts, days, strict=True)]

    def chunk(self, planned: Planned, name: str) -> Chunk:
        """The day's row versions as they are."""
        compile_for(self.spark, planned.rows)
        days = [date.fromordinal(ordinal) for (ordinal,) in filter(None, planned.parts)]
        begin = datetime.combine(days[0], day_time(), UTC) if days else None
        of_day = F.col(EVENT_DATE).isin(days) if days else F.col(EVENT_DATE).isNull()
        changes = without_place(_as_changes(self._rows().where(of_day)))
        times = (begin, begin + timedelta(days=1)) if begin else None
        return Chunk(name, FramedChanges(changes), ONE_VERSION, times=times)

    def _rows(self) -> DataFrame:
        if self._old is None:
            # In this order: what the lake's stream adds after this version may lie beyond the fence that it has here.
            version = DeltaLog(self.events).version
            old = is_old(self.own_fence(), self.fence())
            self._old = self.events.read(self.spark, version).where(old)
        days = in_days(self.span.start, self.span.end) | F.col(EVENT_DATE).isNull()
        # A deletion without a time goes by Kafka's, and by ours where a backfill has brought it.
        return self._old.where(days & _within(F.coalesce("event_ts", "kafka_ts", "processed_ts"), self.span))


@dataclass
class TopicSource:
    """Messages as long as Kafka keeps them, through the transform, as far as the sinks' streams have taken them.

    What lies beyond a sink's fence is its stream's to deliver; added here as well it would be there twice.
    """

    spark: SparkSession
    topic: KafkaTopic
    positions: TopicPositions
    catalogue: ContentCatalogue
    span: Span
    chunk_rows: int
    fence: Callable[[], Fence]
    """What the streams of all sinks to fill have taken."""
    taken_of: Callable[[], str]
    """The topic and the tables of which that is told."""
    _contents: ContentSnapshot | None = field(default=None, init=False)

    def identity(self) -> str:
        """The topic, and the tables to fill."""
        return self.taken_of()

    def await_writers(self) -> Sequence[str]:
        """Nobody: an unfinished transaction's messages come to the stream."""
        return ()

    def plan(self) -> list[Planned]:
        """Offsets of all partitions, since nobody knows which hold events of the range; a chunk has some of each."""
        fence, bounds = self.fence(), sorted(self.positions.bounds().items())
        step = max(1, self.chunk_rows // max(1, len(bounds)))
        steps = [
            [(partition, start, end) for start, end in _steps(first, fence.get(partition, 0), step)]
            for partition, (first, _) in bounds
        ]
        chunks = [tuple(part for part in parts if part) for parts in zip_longest(*steps)]
        return [Planned(parts, sum(end - start for _, start, end in parts)) for parts in chunks]

    def chunk(self, planned: Planned, name: str) -> Chunk:
        """The range's messages, of which events outside the span are left out; those without a time go by Kafka's."""
        compile_for(self.spark, planned.rows)
        ranges = [OffsetRange(self.topic.topic, *part) for part in planned.parts]
        self._contents = self.catalogue.load(self._contents)
        messages = narrow_messages(self.topic.read(self.spark, ranges))
        changes = Changes(messages, self._contents.contents).frame()
        # A refused row may keep its time, which lies ahead: the day of a letter is its message's.
        event_ts = F.when(F.col("code").isNull(), F.col("event_ts"))
        wanted = changes.where(_within(F.coalesce(event_ts, "kafka_ts"), self.span))
        times = (self.span.start, self.span.end)
        return Chunk(name, FramedChanges(without_place(wanted)), ONE_VERSION, times=times)


def is_old(own: Fence, taken: Fence) -> Column:
    """Which of the lake's rows no stream has yet to deliver: see LakeSource; `own` is the lake's fence."""
    partition, offset = F.col("kafka_partition"), F.col("kafka_offset")
    ranges = [(number, taken.get(number, 0), following) for number, following in own.items()]
    open_ones = [(partition == number) & (offset >= first) & (offset < end) for number, first, end in ranges]
    return ~F.coalesce(reduce(Column.__or__, open_ones, F.lit(False)), F.lit(False))


def _steps(first: int, last: int, size: int) -> Iterator[tuple[int, int]]:
    for start in range(first, last, size):
        yield start, min(start + size, last)


def _within(moment: Column, span: Span) -> Column:
    return (moment >= F.lit(span.start)) & (moment < F.lit(span.end))


def without_place(changes: DataFrame) -> DataFrame:
    """Row versions without their place in Kafka, which says of a table how far its stream has got. In and out: CHANGES.

    Dead letters keep theirs, which is their name.
    """
    refused = F.col("kind") == str(Kind.DEAD_LETTER)
    places = ("kafka_partition", "kafka_offset", "kafka_ts")
    return changes.withColumns({name: F.when(refused, F.col(name)) for name in places})


def _as_changes(events: DataFrame) -> DataFrame:
    """In: the lake's row versions. Out: CHANGES; what the lake does not keep is NULL. Rows: 1 -> 1."""
    known = {"kind": F.lit(str(Kind.CHANGE)), "is_version": F.lit(True)}
    columns = [
        (F.col(column.name) if column.name in events.columns else known.get(column.name, F.lit(None)))
        .cast(column.dataType)
        .alias(column.name)
        for column in CHANGES
    ]
    return events.select(*columns)
