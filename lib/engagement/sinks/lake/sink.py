"""The lake sink: a micro-batch is one Delta commit of row versions, after one of its dead letters if it has any.

Guarantee: every row version once, every dead letter once. Where a crash can fall, and why the replay repairs it:

* before the dead letters' commit: files that no table names, which vacuum removes; the replay writes everything.
* between the two commits: dead letters are known by place and time in Kafka, so the replay adds none twice.
* after the events' commit: it carries the fence, so the replay finds its rows below it and writes none.

Two drivers: see delta/fence.py. Time bound: one trigger and one micro-batch; readers see a commit whole or not at all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from engagement.identity import BatchIdentity, Fence, OffsetRange
from engagement.sinks.base import CommitTimes, PartitionSummary, check_topic
from engagement.sinks.delta.fence import DeltaFence
from engagement.sinks.delta.files import Folder
from engagement.sinks.delta.letters import add_letter_files
from engagement.sinks.delta.log import DeltaLog
from engagement.sinks.delta.tables import LakeTable, dead_letters_table
from engagement.sinks.delta.upkeep import Upkeep, UpkeepPlan
from engagement.sinks.lake.tables import EVENT_DATE, EVENTS, SINK, events_table
from engagement.sinks.lake.writer import REPORT, TaskReport, WritePlan, make_task, read_reports, write_again
from engagement.sinks.outcomes import sum_up
from engagement.sinks.source_log import last_places, may_repeat
from engagement.sinks.spark_faults import spark_translated
from engagement.transform.changes import Changes
from engagement.transform.instant import to_micros

_VERSION = ["event_id", "version"]
"""What names a row version everywhere; the source may send one again under new offsets."""


@dataclass(frozen=True)
class LakeOptions:
    """Where the lake is and how it is kept."""

    path: str
    """Folder or object store address."""
    upkeep: UpkeepPlan = field(default_factory=UpkeepPlan)


class LakeSink:
    """Appends to `enriched_events`, adds what is new to `dead_letters`; opens nothing before `open`."""

    name = SINK
    content_first = True
    backfill_mends = True

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
        self._upkeep = Upkeep(spark, (self.events, self.dead_letters), options.upkeep, clock)
        self.log: Callable[[LakeTable], DeltaLog] = DeltaLog
        """How commits are made; a test puts its faults between."""

    def open(self) -> None:
        """Make the tables, or check those that are there. Raises: TransientError, PermanentSinkError."""
        self._topic_id = self._ask_topic_id()
        with spark_translated(SINK):
            self._upkeep.prepare()
            self.events.prepare()
            self.dead_letters.prepare()

    def fence(self) -> Fence:
        """Next offset per partition, from the newest commit that carries them. Raises: TransientSinkError."""
        return self._fence(self.log(self.events)).next_offsets

    def deliver(
        self,
        changes: Changes,
        ranges: Sequence[OffsetRange],
        identity: BatchIdentity,
        *,
        final: bool,  # noqa: ARG002 always true, by content_first
    ) -> list[PartitionSummary]:
        """Write what the tables lack of these ranges.

        Raises: TransientSinkError, also when another driver wrote meanwhile; GapError.
        """
        log = self.log(self.events)
        before = self._fence(log)
        plan = WritePlan(
            Folder(self.events.path),
            Folder(self.dead_letters.path),
            before.next_offsets,
            to_micros(self._clock()),
            str(identity),
        )
        with spark_translated(SINK):
            reports = self._write(changes, plan)
            spans = [(report.summary.partition, report.span) for report in reports]
            if may_repeat(spans, before.places):
                reports = self._without_repeats(reports, plan)
            check_topic(SINK, self._topic_id, self._ask_topic_id)
            letters = [file for report in reports for file in report.letters]
            add_letter_files(self._spark, self.dead_letters, letters)
        after = before.after(ranges, last_places(spans))
        # Without a step there is no row to add, and a commit would spend the transaction id of the next one.
        if after != before:
            log.append([file for report in reports for file in report.files], before, after, identity)
        with spark_translated(SINK):
            self._upkeep.after_commit()
        summaries = [sum_up([report.summary for report in reports], part) for part in ranges]
        self._visible([summary.commit_times_ms for summary in summaries])
        return summaries

    def close(self) -> None:
        """Nothing is held open."""

    def _write(self, changes: Changes, plan: WritePlan) -> list[TaskReport]:
        rows = changes.each_partition(make_task(plan), REPORT).collect()
        return read_reports(row.asDict(recursive=True) for row in rows)

    def _without_repeats(self, reports: Sequence[TaskReport], plan: WritePlan) -> list[TaskReport]:
        """The same with files that lack the versions that the table has, or that come twice: a source that went back.

        The former files are named by no commit, and vacuum removes them.
        """
        written = [f"{self.events.path}/{file['path']}" for report in reports for file in report.files]
        if not written:
            return list(reports)
        days = {file["day"] for report in reports for file in report.files}
        events = self._spark.read.schema(EVENTS).option("basePath", self.events.path).parquet(*written)
        there = self.events.read(self._spark).where(F.col(EVENT_DATE).isin(*days) | F.col(EVENT_DATE).isNull())
        fresh = events.where(~_is_flat()).dropDuplicates(_VERSION)
        fresh = fresh.join(there.select(*_VERSION), on=_VERSION, how="left_anti")
        kept = fresh.unionByName(events.where(_is_flat())).select(*EVENTS.names)
        again = kept.mapInArrow(partial(write_again, plan=plan), from_arrow_schema(REPORT)).collect()
        anew = read_reports(row.asDict(recursive=True) for row in again)
        left = {summary.partition: 0 for summary in (report.summary for report in reports)}
        for report in anew:
            left[report.summary.partition] += report.summary.delivered
        counted = [replace(report, summary=_keeping(report.summary, left), files=()) for report in reports]
        return [*counted, *(TaskReport(PartitionSummary(-1, 0, 0), files=report.files) for report in anew)]

    def _fence(self, log: DeltaLog) -> DeltaFence:
        """The newest fence; that of a topic that was deleted since and made again says nothing about this one."""
        found, is_known = log.fence(self._topic_id)
        if found is not None:
            return found
        return DeltaFence(self._topic_id, {} if is_known else self._held_offsets())

    def _held_offsets(self) -> Fence:
        """What the rows themselves say, where no commit tells any more: Delta forgets commits after 30 days."""
        with spark_translated(SINK):
            newest = self.events.read(self._spark).groupBy("kafka_partition").agg(F.max("kafka_offset"))
            return {partition: offset + 1 for partition, offset in newest.dropna().collect()}


def _is_flat() -> Column:
    """Whether a row stands, flat, at the offset that is its version: it repeats nothing (sinks.bigquery.repeats)."""
    return F.col("version") == F.col("kafka_offset") + 1


def _keeping(summary: PartitionSummary, left: dict[int, int]) -> PartitionSummary:
    """The summary once only so many of the partition's rows were new; `left` is used up."""
    kept = min(summary.delivered, left[summary.partition])
    left[summary.partition] -= kept
    repeats = summary.delivered - kept
    already = summary.already_delivered + repeats
    return replace(summary, delivered=kept, already_delivered=already, repeats=repeats)
