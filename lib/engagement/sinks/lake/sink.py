"""The lake sink: a micro-batch is one Delta commit of row versions, after one of its dead letters if it has any.

Guarantee: every row version once, every dead letter once. Where a crash can fall, and why the replay repairs it:

* before the dead letters' commit: files that no table names, which vacuum removes; the replay writes everything.
* between the two commits: dead letters are merged by their place in Kafka, so the replay adds none twice.
* after the events' commit: it carries the fence, so the replay finds its rows below it and writes none.

Two drivers: see delta/fence.py. Time bound: one trigger and one micro-batch; readers see a commit whole or not at all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import reduce

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from engagement.identity import BatchIdentity, Fence, OffsetRange
from engagement.sinks.base import CommitTimes, PartitionSummary
from engagement.sinks.delta.fence import DeltaFence
from engagement.sinks.delta.fenced import FencedTable
from engagement.sinks.delta.tables import dead_letters_table, merge_dead_letters, stored_dead_letters, translated
from engagement.sinks.delta.upkeep import Upkeep, UpkeepPlan
from engagement.sinks.lake.summaries import look_at
from engagement.sinks.lake.tables import EVENT_DATE, SINK, events_table, stored_events
from engagement.transform.changes import Changes
from engagement.transform.enrich import dead_letters, enriched_events

ROWS_PER_FILE = 25_000
"""A micro-batch of that many rows becomes one file per day; more are written side by side."""
_VERSION = ["event_id", "version"]
"""What names a row version everywhere; the source may send one again under new offsets."""


@dataclass(frozen=True)
class LakeOptions:
    """Where the lake is and how it is kept."""

    path: str
    """Folder or object store address."""
    upkeep: UpkeepPlan = field(default_factory=UpkeepPlan)


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
        self.events = events_table(options.path)
        self.dead_letters = dead_letters_table(SINK, options.path)
        self._fenced = FencedTable(spark, self.events, self._held_offsets)
        self._upkeep = Upkeep(spark, (self.events, self.dead_letters), options.upkeep, clock)

    def open(self) -> None:
        """Make the tables, or check those that are there. Raises: TransientError, PermanentSinkError."""
        self._topic_id = self._ask_topic_id()
        with translated(SINK):
            self._upkeep.prepare()
            self.events.prepare(self._spark)
            self.dead_letters.prepare(self._spark)

    def fence(self) -> Fence:
        """Next offset per partition, from the newest commit that carries them. Raises: TransientSinkError."""
        with translated(SINK):
            return self._fenced.fence(self._topic_id).next_offsets

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
        with translated(SINK):
            before = self._fenced.fence(self._topic_id)
            # Everything below looks at the rows; without this each look would decode them anew.
            rows = changes.frame().persist(StorageLevel.DISK_ONLY)
            try:
                summaries = self._write(rows, ranges, before, identity)
            finally:
                rows.unpersist()
            self._upkeep.after_commit()
        self._visible([summary.commit_times_ms for summary in summaries])
        return summaries

    def close(self) -> None:
        """Nothing is held open."""

    def _write(
        self, rows: DataFrame, ranges: Sequence[OffsetRange], before: DeltaFence, identity: BatchIdentity
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
            self._fenced.append(events.coalesce(files), before, after, identity)
        return found.summaries

    def _not_there_yet(self, events: DataFrame) -> DataFrame:
        """Events without those whose version the table has, or that come twice: a source that went back sends them."""
        days = [row[0] for row in events.select(EVENT_DATE).distinct().collect()]
        there = self.events.read(self._spark).where(F.col(EVENT_DATE).isin(days) | F.col(EVENT_DATE).isNull())
        return events.dropDuplicates(_VERSION).join(there.select(*_VERSION), on=_VERSION, how="left_anti")

    def _add_dead_letters(self, new: DataFrame, identity: BatchIdentity) -> None:
        letters = stored_dead_letters(dead_letters(new), str(identity), None, F.lit(1))
        merge_dead_letters(self._spark, self.dead_letters, letters)

    def _held_offsets(self) -> Fence:
        """What the rows themselves say, where no commit tells any more: Delta forgets commits after 30 days."""
        newest = self.events.read(self._spark).groupBy("kafka_partition").agg(F.max("kafka_offset"))
        return {partition: offset + 1 for partition, offset in newest.dropna().collect()}


def _is_below(fence: Fence) -> Column:
    """Whether the table has taken a row's offset before."""
    partition, offset = F.col("kafka_partition"), F.col("kafka_offset")
    taken = [(partition == number) & (offset < following) for number, following in fence.items()]
    return reduce(Column.__or__, taken, F.lit(False))
