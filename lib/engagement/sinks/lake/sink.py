"""The lake sink: a micro-batch is one Delta commit of row versions, after one of its dead letters if it has any.

Guarantee: every row version once, every dead letter once. Where a crash can fall, and why the replay repairs it:

* before the dead letters' commit: files that no table names, which vacuum removes; the replay writes everything.
* between the two commits: dead letters are merged by their place in Kafka, so the replay adds none twice.
* after the events' commit: it carries the fence, so the replay finds its rows below it and writes none.

Two drivers: see fence.py. Time bound: one trigger and one micro-batch; readers see a commit whole or not at all.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce

from py4j.protocol import Py4JJavaError
from pyspark import StorageLevel
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from engagement.errors import TransientSinkError, first_line
from engagement.identity import BatchIdentity, Fence, OffsetRange
from engagement.sinks.base import CommitTimes, PartitionSummary
from engagement.sinks.lake.fence import LakeFence, fence_of
from engagement.sinks.lake.summaries import look_at
from engagement.sinks.lake.tables import (
    DEAD_LETTERS,
    EVENT_DATE,
    EVENTS,
    KAFKA_DATE,
    SINK,
    LakeTable,
    stored_dead_letters,
    stored_events,
)
from engagement.transform.changes import Changes
from engagement.transform.enrich import dead_letters, enriched_events

ROWS_PER_FILE = 25_000
"""A micro-batch of that many rows becomes one file per day; more are written side by side."""
_FIRST_VACUUM, _VACUUM_EVERY = timedelta(hours=1), timedelta(days=1)
_NEWEST_COMMITS = 10
"""Where the fence is looked for first: behind it lies at most some upkeep."""
_COMPACTION = {"minFileSize": 64 * 2**20, "maxFileSize": 256 * 2**20}
"""Bytes: what is small, and what small files become. A file that is large enough is not rewritten again and again."""
_VERSION = ["event_id", "version"]
"""What names a row version everywhere; the source may send one again under new offsets."""
_SAME_LETTER = " and ".join(
    f"stored.{name} = new.{name}" for name in (KAFKA_DATE, "topic", "kafka_partition", "kafka_offset", "stage")
)


@dataclass(frozen=True)
class LakeOptions:
    """Where the lake is and how it is kept."""

    path: str
    """Folder or object store address."""
    compact_files: int = 50
    """Commits after which the small files of today and yesterday are rewritten as one; 0: never."""
    retention_hours: int = 168
    """Age at which files that no version needs any more are deleted; 0: never."""


class LakeSink:
    """Appends to `enriched_events`, merges into `dead_letters`; opens nothing before `open`."""

    name = SINK
    content_first = True

    def __init__(
        self,
        spark: SparkSession,
        options: LakeOptions,
        topic_id: Callable[[], str],
        visible: Callable[[Sequence[CommitTimes]], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._spark = spark
        self._ask_topic_id = topic_id
        self._topic_id = ""
        self._visible = visible
        self._clock = clock
        self._options = options
        self._uncompacted = 0
        self._vacuum_after = clock() + _FIRST_VACUUM
        keeping = (("delta.setTransactionRetentionDuration", "interval 30 days"),)
        self.events = LakeTable(
            f"{options.path}/enriched_events", EVENTS, EVENT_DATE,
            (*keeping, ("delta.appendOnly", "true")),
        )  # fmt: skip
        self.dead_letters = LakeTable(f"{options.path}/dead_letters", DEAD_LETTERS, KAFKA_DATE, keeping)

    def open(self) -> None:
        """Make the tables, or check those that are there. Raises: TransientError, PermanentSinkError."""
        self._topic_id = self._ask_topic_id()
        with _translated():
            for name, value in _COMPACTION.items():
                self._spark.conf.set(f"spark.databricks.delta.optimize.{name}", value)
            self.events.prepare(self._spark)
            self.dead_letters.prepare(self._spark)

    def fence(self) -> Fence:
        """Next offset per partition, from the newest commit that carries them. Raises: TransientSinkError."""
        return self._fence().next_offsets

    def start_without_fence(self) -> Fence | None:
        """None: a table without a fence is empty, and takes what the topic still holds."""
        return None

    def deliver(
        self,
        changes: Changes,
        ranges: Sequence[OffsetRange],
        identity: BatchIdentity,
        *,
        final: bool,  # noqa: ARG002 always true, by content_first
    ) -> list[PartitionSummary]:
        """Write what the tables lack of these ranges.

        Raises: TransientSinkError, also when another driver wrote meanwhile.
        """
        with _translated():
            before = self._fence()
            # Everything below looks at the rows; without this each look would decode them anew.
            rows = changes.frame().persist(StorageLevel.DISK_ONLY)
            try:
                summaries = self._write(rows, ranges, before, identity)
            finally:
                rows.unpersist()
            self._rewrite_small_files()
            self._delete_old_files()
        self._visible([summary.commit_times_ms for summary in summaries])
        return summaries

    def close(self) -> None:
        """Nothing is held open."""

    def _rewrite_small_files(self) -> None:
        """Every so many micro-batches; older days have seen their last compaction."""
        self._uncompacted += 1
        if not self._options.compact_files or self._uncompacted < self._options.compact_files:
            return
        self._uncompacted = 0
        yesterday = (self._clock() - timedelta(days=1)).date().isoformat()
        for table in (self.events, self.dead_letters):
            recent = f"{table.partition_by} >= '{yesterday}'"
            table.open(self._spark).optimize().where(recent).executeCompaction()

    def _delete_old_files(self) -> None:
        """Once a day, and for the first time an hour after the start, so that restarts do not add up."""
        if not self._options.retention_hours or self._clock() < self._vacuum_after:
            return
        self._vacuum_after = self._clock() + _VACUUM_EVERY
        for table in (self.events, self.dead_letters):
            table.open(self._spark).vacuum(self._options.retention_hours)

    def _write(
        self, rows: DataFrame, ranges: Sequence[OffsetRange], before: LakeFence, identity: BatchIdentity
    ) -> list[PartitionSummary]:
        is_old = _is_below(before.next_offsets)
        found, new = look_at(rows, ranges, is_old), rows.where(~is_old)
        if any(summary.dead_letters for summary in found.summaries):
            self._add_dead_letters(new, identity)
        events = stored_events(enriched_events(new, F.lit(self._clock())))
        if found.may_repeat(before.places):
            events = self._not_there_yet(events)
            kept = {row.kafka_partition: row["count"] for row in events.groupBy("kafka_partition").count().collect()}
            found = found.without({s.partition: s.delivered - kept.get(s.partition, 0) for s in found.summaries})
        after = before.after(ranges, found.last_places)
        # Without a step there is no row to add, and a commit would spend the transaction id of the next one.
        if after != before:
            files = 1 + sum(summary.delivered for summary in found.summaries) // ROWS_PER_FILE
            self._append(events.coalesce(files), before, after, identity)
        return found.summaries

    def _not_there_yet(self, events: DataFrame) -> DataFrame:
        """Events without those whose version the table has, or that come twice: a source that went back sends them."""
        days = [row[0] for row in events.select(EVENT_DATE).distinct().collect()]
        there = self.events.read(self._spark).where(F.col(EVENT_DATE).isin(days) | F.col(EVENT_DATE).isNull())
        return events.dropDuplicates(_VERSION).join(there.select(*_VERSION), on=_VERSION, how="left_anti")

    def _append(self, events: DataFrame, before: LakeFence, after: LakeFence, identity: BatchIdentity) -> None:
        writer = events.write.format("delta").mode("append").partitionBy(EVENT_DATE)
        writer = writer.option("txnAppId", before.successor).option("txnVersion", 1)
        writer.option("userMetadata", after.to_metadata(identity)).save(self.events.path)
        if self._fence() != after:
            raise TransientSinkError(SINK, "another driver wrote to it meanwhile; going on from its fence")

    def _add_dead_letters(self, new: DataFrame, identity: BatchIdentity) -> None:
        letters = stored_dead_letters(dead_letters(new), F.lit(str(identity)))
        table = self.dead_letters.open(self._spark).alias("stored")
        table.merge(letters.alias("new"), _SAME_LETTER).whenNotMatchedInsertAll().execute()

    def _fence(self) -> LakeFence:
        """The newest fence; that of a topic that was deleted since and made again says nothing about this one."""
        topic_id, table = self._topic_id, self.events.open(self._spark)
        for commits in (table.history(_NEWEST_COMMITS), table.history()):
            told = [fence_of(metadata) for (metadata,) in commits.select("userMetadata").collect()]  # newest first
            of_topic = [fence for fence in told if fence is not None and fence.topic_id == topic_id]
            if of_topic:
                return of_topic[0]
        return LakeFence(topic_id, {} if any(told) else self._held_offsets())

    def _held_offsets(self) -> Fence:
        """What the rows themselves say, where no commit tells any more: Delta forgets commits after 30 days."""
        newest = self.events.read(self._spark).groupBy("kafka_partition").agg(F.max("kafka_offset"))
        return {partition: offset + 1 for partition, offset in newest.dropna().collect()}


def _is_below(fence: Fence) -> Column:
    """Whether the table has taken a row's offset before."""
    partition, offset = F.col("kafka_partition"), F.col("kafka_offset")
    taken = [(partition == number) & (offset < following) for number, following in fence.items()]
    return reduce(Column.__or__, taken, F.lit(False))


@contextmanager
def _translated() -> Iterator[None]:
    """Turn Spark's and Delta's errors into TransientSinkError; a JVM that has gone stays what it is."""
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        raise TransientSinkError(SINK, first_line(error)) from error
