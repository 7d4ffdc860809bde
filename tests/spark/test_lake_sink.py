"""The lake sink on real Delta tables: each row version and each dead letter once, whatever comes twice."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable as OtherEngine
from pyspark.sql import Row, SparkSession
from pyspark.sql import types as T
from tests.builders import CONTENT_ID, LSN, MIXED, Message, created, envelope, in_order, message, row
from tests.spark import frames
from tests.spark.tables import rows_of
from tests.spark.warehouse import part

from engagement.errors import GapError, PermanentSinkError, TransientSinkError
from engagement.identity import BatchIdentity, OffsetRange
from engagement.sinks.base import CommitTimes, PartitionSummary
from engagement.sinks.delta.fence import DeltaFence
from engagement.sinks.delta.files import FileWriter, Folder
from engagement.sinks.delta.log import DeltaLog
from engagement.sinks.delta.tables import DEAD_LETTERS, LakeTable
from engagement.sinks.delta.upkeep import Upkeep, UpkeepPlan
from engagement.sinks.lake.sink import LakeOptions, LakeSink
from engagement.sinks.lake.tables import EVENT_DATE, EVENT_FILE, EVENTS

pytestmark = [pytest.mark.spark, pytest.mark.timeout(300)]

COMMIT_MS = 1_795_446_000_000
"""As the builders have it."""
NOW = datetime(2026, 11, 23, 15, 0, 1, tzinfo=UTC)
IDENTITY = BatchIdentity("app", "generation", 3)


class Lake:
    """A lake in a folder, and the drivers that write to it."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self.spark, self.folder, self.topic_id = spark, folder, "first"
        self.visible: list[Sequence[CommitTimes]] = []

    def driver(self, clock: Callable[[], datetime] = lambda: NOW, compact_files: int = 0) -> LakeSink:
        options = LakeOptions(str(self.folder), UpkeepPlan(compact_files))
        sink = LakeSink(self.spark, options, lambda: self.topic_id, self.visible.append, clock)
        sink.open()
        return sink

    def deliver(self, sink: LakeSink, messages: Sequence[Message], *ranges: OffsetRange) -> list[PartitionSummary]:
        planned = ranges or (OffsetRange("engagement-events", 0, 0, len(messages)),)
        changes = frames.changes(self.spark, messages)
        return sink.deliver(changes, planned, IDENTITY, final=True)

    def events(self) -> list[Row]:
        return sorted(rows_of(self.driver().events), key=lambda r: (r.kafka_partition, r.kafka_offset))

    def letters(self) -> list[Row]:
        return sorted(rows_of(self.driver().dead_letters), key=lambda r: r.kafka_offset)


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path) -> Lake:
    return Lake(spark, tmp_path / "a lake")


def inserted(count: int, partition: int = 0) -> list[Message]:
    return [Message(created(id=n + 1).value, offset=n, partition=partition) for n in range(count)]


def placed(value: bytes | None, number: int) -> bytes | None:
    """The same further on in the source's log: what comes later there is another version."""
    if value is None:
        return None
    for lsn in (LSN, LSN - 8):
        value = value.replace(str(lsn).encode(), str(lsn + 16 * number).encode())
    return value


SENT = [replace(m, value=placed(m.value, m.offset)) for m in in_order(MIXED)]


def test_a_new_lake_has_both_tables_with_the_public_columns_and_no_fence(lake: Lake) -> None:
    sink = lake.driver()
    assert sink.fence() == {}
    assert [(f.name, f.dataType) for f in sink.events.read(lake.spark).schema] == [(f.name, f.dataType) for f in EVENTS]
    assert [f.name for f in sink.dead_letters.read(lake.spark).schema] == DEAD_LETTERS.names
    assert sink.events.open(lake.spark).detail().first()["partitionColumns"] == ["event_date"]


def test_each_message_ends_where_its_outcome_says(lake: Lake) -> None:
    sink = lake.driver()
    (summary,) = lake.deliver(sink, SENT)
    assert summary.conservation_difference == 0
    assert (summary.read, summary.delivered, summary.tombstones, summary.moves) == (7, 3, 1, 1)
    assert summary.dead_letters == {"E_RANGE_DURATION": 1, "E_UTF8": 1}
    assert [(r.kafka_offset, r.op) for r in lake.events()] == [(0, "c"), (5, "u"), (6, "d")]
    assert [(r.kafka_offset, r.code, bytes(r.raw_value)) for r in lake.letters()] == [
        (1, "E_RANGE_DURATION", SENT[1].value),
        (3, "E_UTF8", b"\xff"),
    ]
    assert {(r.stage, r.status, r.attempts, r.sink, r.batch_id) for r in lake.letters()} == {
        ("decode", "new", 1, None, str(IDENTITY))
    }
    assert {(r.history, tuple(r.header_names or ())) for r in lake.letters()} == {(None, ())}
    assert sink.fence() == {0: 7}
    assert sum(sum(times.values()) for times in lake.visible[-1]) == 3


def test_a_table_that_was_emptied_is_told_of(lake: Lake) -> None:
    (summary,) = lake.deliver(lake.driver(), in_order([created(), message(envelope("t"))]))
    assert (summary.delivered, summary.dead_letters, summary.truncations) == (1, {"E_ENVELOPE": 1}, 1)


def test_rows_hold_what_the_transform_computed(lake: Lake) -> None:
    lake.deliver(lake.driver(), [created(duration_ms=45_000)])
    (found,) = lake.events()
    assert (found.content_id, found.slug, found.length_seconds) == (CONTENT_ID, "a", 60)
    assert (found.engagement_seconds, found.engagement_pct) == (Decimal("45.000"), Decimal("75.00"))
    assert (str(found.event_date), found.raw_payload, found.flags) == ("2026-11-23", '{"a": 1}', [])
    assert found.processed_ts == NOW.replace(tzinfo=None)


def test_what_comes_twice_is_stored_once(lake: Lake) -> None:
    lake.deliver(lake.driver(), SENT)
    events, letters = lake.events(), lake.letters()
    (again,) = lake.deliver(lake.driver(), SENT)
    assert (again.read, again.already_delivered, again.delivered) == (7, 7, 0)
    assert (lake.events(), lake.letters()) == (events, letters)


def test_a_replay_of_old_rows_only_does_not_block_what_follows(lake: Lake) -> None:
    sink = lake.driver()
    for end in (3, 3, 5):
        lake.deliver(sink, inserted(end), part(0, end))
    assert [r.event_id for r in lake.events()] == [1, 2, 3, 4, 5]


def test_of_a_range_that_overlaps_only_the_rest_is_stored(lake: Lake) -> None:
    sink = lake.driver()
    lake.deliver(sink, inserted(3), part(0, 3))
    (summary,) = lake.deliver(sink, inserted(5), part(0, 5))
    assert (summary.already_delivered, summary.delivered) == (3, 2)
    assert [r.event_id for r in lake.events()] == [1, 2, 3, 4, 5]


def later(number: int) -> bytes:
    """A row whose change stands further on in the source's log."""
    return message(envelope("c", after=row(id=number), lsn=LSN + 16 * number)).value or b""


def test_versions_that_the_source_sends_again_under_new_offsets_are_stored_once(lake: Lake) -> None:
    sink = lake.driver()
    first = [Message(later(n), offset=n) for n in range(1, 5)]
    lake.deliver(sink, first, part(1, 5))
    again = [Message(later(n), offset=n + 10) for n in (3, 4, 5)]
    (summary,) = lake.deliver(sink, again, part(5, 16))
    assert (summary.delivered, summary.repeats, summary.already_delivered) == (1, 2, 2)
    assert summary.conservation_difference == 0
    assert [(r.event_id, r.kafka_offset) for r in lake.events()] == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 15)]
    (summary,) = lake.deliver(sink, [Message(later(6), offset=20)], part(16, 21))
    assert (summary.delivered, summary.repeats) == (1, 0)


def test_a_replay_is_a_version_of_its_own_time_and_stored_once(lake: Lake) -> None:
    sink = lake.driver()
    lake.deliver(sink, [Message(later(n), offset=n) for n in (1, 5)], part(1, 6))
    replay = Message(later(3), offset=6, replay_of=3)
    (summary,) = lake.deliver(sink, [replay], part(6, 7))
    assert (summary.delivered, summary.repeats, summary.commit_times_ms) == (1, 0, {})
    (summary,) = lake.deliver(sink, [replace(replay, offset=7), Message(later(6), offset=8)], part(7, 9))
    assert (summary.delivered, summary.repeats) == (1, 1)
    assert [(r.event_id, r.version, r.kafka_offset) for r in lake.events()] == [
        (n, LSN + 16 * n, at) for n, at in ((1, 1), (5, 5), (3, 6), (6, 8))
    ]


def test_versions_that_come_again_within_one_micro_batch_are_stored_once(lake: Lake) -> None:
    values = [(later(n), COMMIT_MS + 1000 * n) for n in (1, 2, 3, 2, 3, 4)]
    sent = [value.replace(str(COMMIT_MS).encode(), str(at).encode()) for value, at in values]
    (summary,) = lake.deliver(lake.driver(), [Message(value, offset=n) for n, value in enumerate(sent)])
    assert (summary.delivered, summary.repeats) == (4, 2)
    assert sorted(r.event_id for r in lake.events()) == [1, 2, 3, 4]


def test_flat_rows_at_the_same_offset_of_two_partitions_are_two_rows_beside_repeats_too(lake: Lake) -> None:
    sink = lake.driver()
    lake.deliver(sink, [Message(later(n), offset=n) for n in (1, 2)], part(1, 3))
    flat = message(row(id=9)).value
    sent = [Message(later(2), offset=3), Message(flat, offset=4), Message(flat, offset=4, partition=1)]
    summaries = lake.deliver(sink, sent, part(3, 5), part(0, 5, partition=1))
    assert [(summary.delivered, summary.repeats) for summary in summaries] == [(1, 1), (1, 0)]
    assert [(r.kafka_partition, r.kafka_offset) for r in lake.events()] == [(0, 1), (0, 2), (0, 4), (1, 4)]


def test_partitions_move_by_themselves(lake: Lake) -> None:
    sink = lake.driver()
    lake.deliver(sink, inserted(2), part(0, 2))
    lake.deliver(sink, inserted(4, partition=1), part(2, 2), part(0, 4, partition=1))
    assert sink.fence() == {0: 2, 1: 4}
    assert len(lake.events()) == 6


def test_a_range_without_rows_moves_the_fence(lake: Lake) -> None:
    sink = lake.driver()
    (summary,) = lake.deliver(sink, [], part(0, 9))
    assert (summary.read, sink.fence()) == (0, {0: 9})


class CrashError(Exception):
    """kill -9."""


def log_before_which(event: Callable[[], object]) -> type[DeltaLog]:
    """A log that lets something happen after the dead letters and before the events."""

    class Log(DeltaLog):
        def append(
            self, files: Sequence[Mapping[str, Any]], before: DeltaFence, after: DeltaFence, identity: BatchIdentity
        ) -> None:
            event()
            super().append(files, before, after, identity)

    return Log


def die() -> None:
    raise CrashError


def test_a_crash_between_the_two_commits_leaves_no_dead_letter_twice(lake: Lake) -> None:
    dying = lake.driver()
    dying.log = log_before_which(die)
    with pytest.raises(CrashError):
        lake.deliver(dying, SENT)
    assert (len(lake.letters()), lake.events(), dying.fence()) == (2, [], {})
    lake.deliver(lake.driver(), SENT)
    assert ([r.kafka_offset for r in lake.letters()], len(lake.events())) == ([1, 3], 3)


@pytest.mark.parametrize("overtaken_by", [3, 5, 9])
def test_of_two_drivers_that_write_the_same_rows_at_once_one_is_refused_and_goes_on_from_the_other(
    lake: Lake, overtaken_by: int
) -> None:
    first, second = lake.driver(), lake.driver()

    second.log = log_before_which(lambda: lake.deliver(first, inserted(overtaken_by), part(0, overtaken_by)))
    with pytest.raises(TransientSinkError, match="another driver"):
        lake.deliver(second, inserted(5), part(0, 5))
    second.log = DeltaLog
    assert [r.event_id for r in lake.events()] == [*range(1, overtaken_by + 1)]
    lake.deliver(second, inserted(5), part(0, 5))
    assert [r.event_id for r in lake.events()] == [*range(1, max(5, overtaken_by) + 1)]


def test_a_driver_that_slept_over_many_commits_is_refused(lake: Lake) -> None:
    first, second = lake.driver(), lake.driver()

    def others_go_on() -> None:
        for end in range(1, 5):
            lake.deliver(first, inserted(end), part(end - 1, end))
        first.events.open(lake.spark).optimize().executeCompaction()

    second.log = log_before_which(others_go_on)
    with pytest.raises(TransientSinkError, match="another driver"):
        lake.deliver(second, inserted(1), part(0, 1))
    assert [r.event_id for r in lake.events()] == [1, 2, 3, 4]


def test_upkeep_while_rows_are_written_does_not_refuse_them(lake: Lake) -> None:
    sink = lake.driver()
    for end in (1, 2):
        lake.deliver(sink, inserted(end), part(end - 1, end))

    sink.log = log_before_which(lambda: sink.events.open(lake.spark).optimize().executeCompaction())
    lake.deliver(sink, inserted(3), part(2, 3))
    assert [r.event_id for r in lake.events()] == [1, 2, 3]
    assert sink.fence() == {0: 3}


def test_rows_of_many_days_lie_in_files_of_their_day(lake: Lake) -> None:
    stamps = ["2026-11-21T10:00:00Z", "2026-11-22T00:00:00Z", "2026-11-21T23:59:59.999999Z", "2000-01-01T00:00:00Z"]
    lake.deliver(
        lake.driver(), [Message(created(id=n + 1, event_ts=at).value, offset=n) for n, at in enumerate(stamps)]
    )
    assert [str(r.event_date) for r in lake.events()] == ["2026-11-21", "2026-11-22", "2026-11-21", "2000-01-01"]
    of_day = lake.driver().events.read(lake.spark).where("event_date = '2026-11-21'")
    assert of_day.count() == 2
    assert {file.split("/")[-2] for file in of_day.inputFiles()} == {"event_date=2026-11-21"}


def test_a_topic_that_was_made_again_starts_at_its_beginning(lake: Lake) -> None:
    lake.deliver(lake.driver(), inserted(2))
    lake.topic_id = "second"
    sink = lake.driver()
    assert sink.fence() == {}
    lake.deliver(sink, inserted(1))
    assert (sink.fence(), len(lake.events())) == ({0: 1}, 3)


def test_what_a_topic_brings_that_was_made_again_since_comes_once_by_the_next_start(lake: Lake) -> None:
    sink = lake.driver()
    lake.deliver(sink, inserted(2))
    lake.topic_id = "second"
    anew = [Message(created(id=n + 11).value, offset=n) for n in range(4)]
    with pytest.raises(GapError, match="made again"):
        lake.deliver(sink, anew[2:], part(2, 4))
    assert [r.event_id for r in lake.events()] == [1, 2]
    again = lake.driver()
    assert again.fence() == {}
    lake.deliver(again, anew)
    assert sorted([r.event_id for r in lake.events()]) == [1, 2, 11, 12, 13, 14]


def test_upkeep_between_two_micro_batches_hides_no_fence(lake: Lake) -> None:
    sink = lake.driver()
    for end in range(1, 4):
        lake.deliver(sink, inserted(end), part(end - 1, end))
    for _ in range(12):
        lake.spark.createDataFrame([], EVENTS).write.format("delta").mode("append").save(sink.events.path)
    sink.events.open(lake.spark).optimize().executeCompaction()
    assert sink.fence() == {0: 3}
    lake.deliver(sink, inserted(4), part(0, 4))
    assert [r.event_id for r in lake.events()] == [1, 2, 3, 4]


def test_the_fence_goes_back_with_what_spark_restores(lake: Lake) -> None:
    sink = lake.driver()
    for end in range(1, 4):
        lake.deliver(sink, inserted(end), part(end - 1, end))
    table = sink.events.open(lake.spark)
    table.optimize().executeCompaction()
    table.restoreToVersion(2)
    assert sink.fence() == {0: 2}
    lake.deliver(sink, inserted(4), part(0, 4))
    assert ([r.event_id for r in lake.events()], sink.fence()) == ([1, 2, 3, 4], {0: 4})


def test_small_files_become_one_and_old_ones_are_deleted_when_it_is_time(lake: Lake) -> None:
    now = NOW
    sink = lake.driver(lambda: now, compact_files=3)
    for end in range(1, 5):
        lake.deliver(sink, inserted(end), part(end - 1, end))
    assert len(sink.events.read(lake.spark).inputFiles()) == 2
    files = list((lake.folder / "enriched_events").rglob("*.parquet"))
    now = NOW + timedelta(days=8)
    lake.deliver(sink, inserted(5), part(0, 5))
    assert [r.event_id for r in lake.events()] == [1, 2, 3, 4, 5]
    assert sink.fence() == {0: 5}
    assert set(files) <= set((lake.folder / "enriched_events").rglob("*.parquet")), "a week by the files' own clock"


def test_small_files_of_older_days_become_one_when_many_have_come(lake: Lake) -> None:
    """Late events, deletions without a day, files of a backfill: whoever wrote them, and however long ago."""
    table = lake.driver().events
    for _ in range(8):
        add_file(table, datetime(2026, 11, 18, tzinfo=UTC), None)
    add_file(table, datetime(2026, 11, 19, tzinfo=UTC))
    add_file(table, datetime(2026, 11, 19, tzinfo=UTC))
    Upkeep(lake.spark, [table], UpkeepPlan(compact_commits=1), lambda: NOW).after_commit()
    folders = [file.split("/")[-2].partition("=")[2] for file in table.read(lake.spark).inputFiles()]
    assert sorted(folders) == ["2026-11-18", "2026-11-19", "2026-11-19", "__HIVE_DEFAULT_PARTITION__"]
    assert table.read(lake.spark).count() == 18


def test_of_many_older_days_a_pass_takes_the_two_with_the_most_small_files(lake: Lake) -> None:
    table = lake.driver().events
    for day, files in {15: 8, 16: 11, 17: 9, 18: 10}.items():
        for _ in range(files):
            add_file(table, datetime(2026, 11, day, tzinfo=UTC))
    upkeep = Upkeep(lake.spark, [table], UpkeepPlan(compact_commits=1), lambda: NOW)
    left = []
    for _ in range(2):
        upkeep.after_commit()
        days = Counter(file.split("/")[-2].partition("=")[2] for file in table.read(lake.spark).inputFiles())
        left.append([days[f"2026-11-{day}"] for day in (15, 16, 17, 18)])
    assert left == [[8, 1, 9, 1], [1, 1, 1, 1]]


def add_file(table: LakeTable, *times: datetime | None) -> None:
    """A commit of rows with these times of their events."""
    columns = [
        pa.array(times, field.type) if field.name == "event_ts" else pa.nulls(len(times), field.type)
        for field in EVENT_FILE
    ]
    writer = FileWriter(Folder(table.path), EVENT_DATE, "event_ts", 0)
    writer.add(pa.RecordBatch.from_arrays(columns, schema=EVENT_FILE))
    writer.finish()
    DeltaLog(table).append_next(writer.files, "another writer", "{}")


def test_vacuum_takes_a_task_or_two_and_not_thousands(lake: Lake) -> None:
    """Each of 10,000 tasks that list nothing takes the ranking's processors too."""
    moment = [NOW]
    upkeep = Upkeep(lake.spark, [lake.driver().events], UpkeepPlan(), lambda: moment[0])
    moment[0] += timedelta(hours=2)
    tracker = lake.spark.sparkContext.statusTracker()
    before = set(tracker.getJobIdsForGroup())
    upkeep.after_commit()
    jobs = [tracker.getJobInfo(job) for job in set(tracker.getJobIdsForGroup()) - before]
    stages = [tracker.getStageInfo(stage) for job in jobs if job for stage in job.stageIds]
    tasks = [stage.numTasks for stage in stages if stage]
    assert tasks
    assert max(tasks) <= 2


def test_where_no_commit_tells_any_more_the_rows_do(lake: Lake, tmp_path: Path) -> None:
    lake.deliver(lake.driver(), inserted(3))
    rows = lake.driver().events.read(lake.spark)
    copy = Lake(lake.spark, tmp_path / "copy")
    rows.write.format("delta").partitionBy("event_date").save(str(copy.folder / "enriched_events"))
    assert copy.driver().fence() == {0: 3}


def test_a_column_that_an_older_table_lacks_is_added(lake: Lake) -> None:
    older = T.StructType([field for field in EVENTS if field.name != "flags"])
    path = str(lake.folder / "enriched_events")
    lake.spark.createDataFrame([], older).write.format("delta").partitionBy("event_date").save(path)
    lake.deliver(lake.driver(), inserted(1))
    assert lake.events()[0].flags == []


def test_a_column_of_another_type_stops_before_any_row_is_read(lake: Lake) -> None:
    other = T.StructType([T.StructField("event_id", T.StringType())])
    lake.spark.createDataFrame([], other).write.format("delta").save(str(lake.folder / "enriched_events"))
    with pytest.raises(PermanentSinkError, match="event_id is string, not bigint"):
        lake.driver()


def test_other_engines_and_older_versions_can_be_read(lake: Lake) -> None:
    sink = lake.driver()
    lake.deliver(sink, inserted(2), part(0, 2))
    lake.deliver(sink, inserted(5), part(0, 5))
    other = OtherEngine(sink.events.path)
    table = other.to_pyarrow_table(columns=["event_id", "engagement_pct"])
    assert sorted(table["event_id"].to_pylist()) == [1, 2, 3, 4, 5]
    by_place = [("kafka_partition", "=", 0), ("kafka_offset", "<", 3), ("content_id", "=", CONTENT_ID)]
    found = other.to_pyarrow_table(columns=["event_id"], filters=by_place)
    assert sorted(found["event_id"].to_pylist()) == [1, 2, 3]
    former = lake.spark.read.format("delta").option("versionAsOf", other.version() - 1).load(sink.events.path)
    assert former.count() == 2
