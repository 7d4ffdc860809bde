"""One row has one digest, whoever computes it: PostgreSQL, Spark, BigQuery, and Python as the judge of all three."""

import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psycopg2
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from tests.builders import CONTENT_ID
from tests.spark.warehouse import drop_dataset, settings_of_a_place

from engagement.backfill.build import events_of
from engagement.embedded.bigquery import BigQuery
from engagement.reconcile.build import Parts, prepare
from engagement.reconcile.compare import Slices, Sums
from engagement.reconcile.sides import LakeSide, TableSide, WarehouseSide
from engagement.settings import Settings
from engagement.sinks.bigquery.rest import Parameter, Rest
from engagement.sinks.lake.tables import EVENTS, events_table
from engagement.sources.history import Span
from engagement.streaming.options import catalogue_of, now, warehouse_options

pytestmark = [pytest.mark.spark, pytest.mark.timeout(600)]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = datetime(2025, 8, 1, 12, 30, 0, 123_456, tzinfo=UTC)
_NO_TIMES = ("infinity", "-infinity", "294276-12-31 23:59:59.999999Z")
"""What PostgreSQL may hold and nobody else: the last is more microseconds than a bigint holds."""
_EVENT = """
insert into {events} (
    event_id, op, version, content_id, user_id, event_type, event_timestamp, duration_ms, device, processed_timestamp
) values (
    @event_id, 'c', 9, @content_id, @user_id, @event_type, @event_ts, @duration_ms, @device,
    timestamp '2025-08-01 00:00:00+00'
)
"""
_TYPES = ("INT64", "STRING", "STRING", "STRING", "TIMESTAMP", "INT64", "STRING")


class Event(NamedTuple):
    """The compared columns of a row, in their order."""

    event_id: int
    content_id: str | None = CONTENT_ID
    user_id: str | None = None
    event_type: str = "play"
    event_ts: datetime | str = _DAY
    duration_ms: int | None = 1
    device: str | None = "ios"

    def in_sinks(self) -> tuple[Any, ...]:
        """The row as lake and warehouse hold it, which have no such times."""
        moment = None if self.event_ts in _NO_TIMES else self.event_ts
        return (*self[:4], moment, *self[5:])

    def sums(self) -> Sums:
        """What a range that holds this row alone must sum up to."""
        moment = self.in_sinks()[4]
        micros = None if moment is None else (moment - _EPOCH) // timedelta(microseconds=1)
        values = (*self[:4], micros, *self[5:])
        digest = hashlib.md5("|".join("~" if v is None else str(v) for v in values).encode()).hexdigest()  # noqa: S324
        return Sums(1, int(digest[:8], 16), int(digest[8:16], 16))


_LETTERS = ("é😀漢字", "\u0301a", "\r\n\t", "'\"\\", "x" * 5_000)
_TEXTS = (None, "", "~", "|", "~|~", "a|b", " ", "NULL", "%s {events}", *_LETTERS)
_TIMES = (
    datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(1, 1, 1, tzinfo=UTC),
    _EPOCH,
    *_NO_TIMES,
)
_NUMBERS = (None, 0, -1, 2**31 - 1, -(2**31))
_ROWS = [
    *(Event(0, device=text) for text in _TEXTS),
    *(Event(0, event_ts=moment) for moment in _TIMES),
    *(Event(0, duration_ms=number) for number in _NUMBERS),
    *(Event(0, event_type=text) for text in _TEXTS if text is not None),
    Event(0, None, None, "click", "infinity", None, None),
    Event(0, CONTENT_ID, CONTENT_ID),
]
EVENTS_AT_ALL = [row._replace(event_id=number) for number, row in enumerate(_ROWS, 1)]
EVENTS_AT_ALL += [Event(2**62), Event(2**63 - 1)]


class Place:
    """The same rows in a table, a lake and a warehouse."""

    def __init__(self, spark: SparkSession, settings: Settings) -> None:
        self.spark, self.settings = spark, settings
        self.table = TableSide(spark, events_of(settings), catalogue_of(settings, spark), None, now)
        self.lake = events_table(settings.paths.lake_path)
        self.rest = Rest(warehouse_options(settings.bigquery))

    def fill(self, events: Sequence[Event]) -> None:
        prepare(
            Parts(
                self.settings, self.spark, None, lambda _: None, lambda: None, threading.Event(), ("warehouse", "lake")
            )
        )
        url = self.settings.postgres.database_url.get_secret_value()
        with closing(psycopg2.connect(url)) as database, database, database.cursor() as cursor:
            cursor.execute("truncate engagement_events")
            cursor.execute("alter table engagement_events drop constraint if exists engagement_events_event_type_check")
            content = "insert into content values (%s, 'a', 'A', 'podcast', 60, now()) on conflict do nothing"
            cursor.execute(content, (CONTENT_ID,))
            cursor.executemany("insert into engagement_events values (%s, %s, %s, %s, %s, %s, %s, '{}')", events)
        names = Event._fields
        known = {"op": "c", "version": 9, "processed_ts": _DAY}
        rows = [{**dict(zip(names, event.in_sinks(), strict=True)), **known} for event in events]
        stored = self.spark.createDataFrame([[row.get(name) for name in EVENTS.names] for row in rows], EVENTS)
        stored.write.format("delta").mode("append").save(self.lake.path)
        for event in events:
            given = zip(names, _TYPES, event.in_sinks(), strict=True)
            text = _EVENT.format(events=self.rest.quoted(self.settings.bigquery.table_id))
            self.rest.run_text(text, [Parameter(*one) for one in given])


@pytest.fixture
def place(spark: SparkSession, bigquery: BigQuery, database_url: str, tmp_path: Path) -> Iterator[Place]:
    found = Place(spark, settings_of_a_place(bigquery, database_url, tmp_path))
    yield found
    drop_dataset(found.rest)


def test_every_side_has_the_same_digests(place: Place) -> None:
    place.fill(EVENTS_AT_ALL)
    one_by_one = Slices(1, 2**63 - 1, 1)
    wanted = {event.event_id - 1: event.sums() for event in EVENTS_AT_ALL}
    assert len({(sums.high, sums.low) for sums in wanted.values()}) == len(EVENTS_AT_ALL)
    assert place.table.sums(one_by_one) == wanted
    lake = LakeSide(place.spark, place.lake, None)
    assert lake.sums(one_by_one) == wanted
    assert lake.gathered_sums(one_by_one) == wanted
    assert WarehouseSide(place.rest, None).sums(one_by_one) == wanted
    accepted = {event_id: row for event_id, row in place.table.digests([e.event_id for e in EVENTS_AT_ALL]).items()}
    of_valid = {i: Sums(1, row.high, row.low) for i, row in accepted.items() if not row.refused}
    assert len(of_valid) > len(_TEXTS)
    assert of_valid == {i: wanted[i - 1] for i in of_valid}


def test_every_side_sums_up_ranges_and_times_alike(place: Place) -> None:
    place.fill(EVENTS_AT_ALL)
    slices, span = Slices(1, 2**63 - 1, 7), Span(_EPOCH, datetime(9999, 1, 1, tzinfo=UTC))
    wanted: dict[int, Sums] = {}
    for event in EVENTS_AT_ALL:
        moment = event.in_sinks()[4]
        if moment is not None and span.start <= moment < span.end:
            bucket, own = (event.event_id - 1) // 7, event.sums()
            had = wanted.get(bucket, Sums())
            wanted[bucket] = Sums(had.events + 1, had.high + own.high, had.low + own.low)
    lake = LakeSide(place.spark, place.lake, span)
    ways = (
        TableSide(place.spark, place.table.table, place.table.catalogue, span, now).sums,
        lake.sums,
        lake.gathered_sums,
        WarehouseSide(place.rest, span).sums,
    )
    for way in ways:
        assert {bucket: sums for bucket, sums in way(slices).items() if sums != Sums()} == wanted, way


def test_a_lake_with_versions_deletions_and_copies_sums_up_alike_both_ways(place: Place) -> None:
    place.fill([Event(number, duration_ms=number) for number in range(1, 400)])
    # As they are now: Delta's frame would show what is appended below.
    rows = place.spark.createDataFrame(place.lake.read(place.spark).collect(), EVENTS)
    newer = rows.where("event_id % 5 = 0").withColumns({"version": F.lit(20).cast("long"), "duration_ms": F.lit(7)})
    gone = rows.where("event_id % 7 = 0").withColumns({"version": F.lit(30).cast("long"), "op": F.lit("d")})
    copies = rows.where("event_id in (11, 12, 35, 300)")
    for added in (newer, gone, copies, rows.where("false")):
        added.write.format("delta").mode("append").save(place.lake.path)
    lake = LakeSide(place.spark, place.lake, None)
    found = {bucket: sums for bucket, sums in lake.sums(Slices(3, 350, 10)).items() if sums != Sums()}
    gathered = {bucket: sums for bucket, sums in lake.gathered_sums(Slices(3, 350, 10)).items() if sums != Sums()}
    assert found == gathered
    assert sum(sums.events for sums in found.values()) == sum(1 for number in range(3, 351) if number % 7)
    assert sum(sums.extra for sums in found.values()) == 4
    assert lake.bounds() == (1, 399)
