"""Damage that was planted in a real lake and a real warehouse is found, named and mended; nothing else is."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from deltalake import DeltaTable
from psycopg2.extensions import connection as Connection
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from tests.builders import CONTENT_ID
from tests.contract.receiving import Receiving
from tests.spark.warehouse import drop_dataset, settings_of_a_place

from engagement.backfill.build import events_of
from engagement.backfill.sources import TableSource
from engagement.embedded.bigquery import BigQuery
from engagement.errors import TransientError
from engagement.project import PROJECT
from engagement.reconcile.build import Parts, build_comparison, lake_mender, mend, prepare, refused_early
from engagement.reconcile.compare import Findings, Kind
from engagement.reconcile.sides import TableSide
from engagement.settings import Settings
from engagement.sinks.bigquery.rest import Rest
from engagement.sinks.external.deliveries import deliveries_table
from engagement.sinks.lake.mending import LakeMender
from engagement.sinks.lake.tables import events_table
from engagement.sources.content import ContentCatalogue, JdbcAddress
from engagement.sources.history import EventsTable, LogPosition, Span
from engagement.streaming.options import content_query, now, warehouse_options

pytestmark = [pytest.mark.spark, pytest.mark.timeout(600)]

ROWS = 300
_KEEPERS = ("warehouse", "lake", "external")
EVERYTHING = Span(datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
_FILL = """
truncate engagement_events restart identity;
insert into content values (%(content)s, 'a', 'A', 'podcast', 60, now()) on conflict do nothing;
insert into engagement_events (content_id, event_type, event_ts, duration_ms, device, raw_payload)
select %(content)s, 'play', timestamptz '2025-08-01 00:00Z' + n * interval '30 minutes', n, 'ios', '{"a": 1}'
from generate_series(1, %(rows)s) as n;
"""


class Place:
    """A database and three sinks that hold what it holds."""

    def __init__(self, spark: SparkSession, database: Connection, settings: Settings) -> None:
        self.spark, self.database, self.settings = spark, database, settings
        self.parts = Parts(settings, spark, None, lambda _: None, lambda: None, threading.Event(), _KEEPERS)
        self.rest = Rest(warehouse_options(settings.bigquery))
        self.events = self.rest.quoted(settings.bigquery.table_id)
        self.lake = events_table(settings.paths.lake_path)
        self.deliveries = deliveries_table(settings.paths.lake_path)

    def execute(self, sql: str, parameters: object = None) -> None:
        with self.database, self.database.cursor() as cursor:
            cursor.execute(sql, parameters)

    def backfill(self) -> None:
        catalogue = contents_of(self.spark, self.settings.postgres.database_url.get_secret_value())
        table = events_of(self.settings)
        first, last = table.id_bounds() or (1, 1)
        source = TableSource(self.spark, table, catalogue, EVERYTHING, 1_000, now, threading.Event(), lambda _: None)
        for sink in _KEEPERS:
            with closing(self.parts.loader(sink)) as loader:
                loader.open()
                for number, planned in enumerate(source.plan()):
                    loader.load(source.chunk(planned, f"fill_{sink}_{number}"))
        assert (first, last) == (1, ROWS)

    def in_warehouse(self, statement: str) -> list[dict[str, Any]]:
        names = {"events": self.events, "current": self.rest.quoted("current_events")}
        return [dict(row) for row in self.rest.run_text(statement.format(**names)).rows]

    def position(self) -> LogPosition:
        return events_of(self.settings).log_position()

    def compare(self) -> dict[str, dict[Kind, list[int]]]:
        return {each.sink: each.ids for each in self.found() if each.ids}

    def found(self) -> Sequence[Findings]:
        return build_comparison(self.parts).run()

    def mend(self) -> None:
        position = self.position()
        mend(self.parts, position, self.found())


def contents_of(spark: SparkSession, database_url: str) -> ContentCatalogue:
    return ContentCatalogue(spark, JdbcAddress.from_database_url(database_url), content_query())


@pytest.fixture
def place(
    spark: SparkSession, bigquery: BigQuery, database_url: str, receiving: Receiving, tmp_path: Path
) -> Iterator[Place]:
    own = {"EXTERNAL_SYSTEM_INSTALLATION": tmp_path.name, "EXTERNAL_SYSTEM_RETENTION_DAYS": "0"}
    settings = settings_of_a_place(bigquery, database_url, tmp_path, **receiving.env, **own)
    with closing(psycopg2.connect(database_url)) as database:
        found = Place(spark, database, settings)
        found.execute(_FILL, {"content": CONTENT_ID, "rows": ROWS})
        prepare(found.parts)
        found.backfill()
        yield found
        drop_dataset(found.rest)


def test_what_is_lost_stale_left_over_or_doubled_is_found_and_mended(
    place: Place, database_url: str, receiving: Receiving
) -> None:
    assert place.compare() == {}
    place.deliveries.open(place.spark).delete("event_id in (7, 8)")
    place.in_warehouse("delete from {events} where event_id in (5, 6, 150)")
    place.in_warehouse("insert into {events} select * from {events} where event_id in (20, 21)")
    copies = place.lake.read(place.spark).where("event_id in (30, 300)")
    copies.write.format("delta").mode("append").save(place.lake.path)
    place.execute("update engagement_events set duration_ms = 77777 where id in (40, 41)")
    place.execute("delete from engagement_events where id in (50, 51)")
    place.execute("update engagement_events set duration_ms = -1 where id = 60")
    both = {Kind.STALE: [40, 41], Kind.PHANTOM: [50, 51]}
    assert place.compare() == {
        "warehouse": {Kind.MISSING: [5, 6, 150], Kind.DOUBLED: [20, 21], **both},
        "lake": {Kind.DOUBLED: [30, 300], **both},
        "external": {Kind.MISSING: [7, 8], **both},
        "dead_letters": {Kind.MISSING: [60]},
    }
    with closing(psycopg2.connect(database_url)) as other:
        other.cursor().execute("update engagement_events set duration_ms = 1 where id = 41")
        with pytest.raises(TransientError, match="still open"):
            place.mend()
    place.mend()
    assert place.compare() == {}
    rows = place.in_warehouse("select event_id, duration_ms from {current}")
    current = {row["event_id"]: row["duration_ms"] for row in rows}
    assert (len(current), current[40], current[60], 50 in current) == (ROWS - 2, 77_777, 60, False)
    versions = [row.version for row in place.lake.read(place.spark).where("event_id in (40, 50)").collect()]
    assert sorted(versions)[:2] == [0, 0]
    assert max(versions) < place.position().place  # whatever changes them later wins
    assert max(versions) % 8 == 7  # no change begins there
    rows = (
        place.deliveries.read(place.spark).where("event_id in (8, 40, 50)").select("event_id", "version", "op", "key")
    )
    sent = {(row.event_id, row.version, row.op): row.key for row in rows.collect()}
    newest = max(versions)
    assert sent.keys() == {(8, 0, "r"), (40, 0, "r"), (40, newest, "u"), (50, 0, "r"), (50, newest, "d")}
    assert [one["key"] for one in receiving.get("events/50")][-1] == sent[(50, newest, "d")]


def test_a_database_that_goes_away_between_two_questions_is_one_that_is_away(
    spark: SparkSession, database_url: str
) -> None:
    """So that who repeats the comparison tries again; the contents could still be read."""
    gone = EventsTable("postgresql://nobody@127.0.0.1:1/nothing", PROJECT / "sql" / "backfill")
    side = TableSide(spark, gone, contents_of(spark, database_url), None, now)
    with pytest.raises(TransientError, match="the events table cannot be read"):
        side.digests([1])


def test_a_lake_that_cannot_be_listed_is_one_that_is_away(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(TransientError, match="lake"):
        LakeMender(spark, str(tmp_path / "nothing")).lost_files()


def test_rows_that_came_too_early_are_known_by_content_and_step(place: Place) -> None:
    place.execute("update engagement_events set event_ts = now() + interval '1 hour' where id = 7")
    place.execute(
        "insert into engagement_events (content_id, event_type, event_ts) values (null, 'play', '2100-01-01')"
    )
    place.mend()  # both get their dead letters
    second = int(time.time() + 3600) // 10 * 10
    around = refused_early(place.parts, second - 600, second + 20)
    assert [content for content, _ in around] == [CONTENT_ID]
    assert {at for _, at in around} <= set(range(second - 600, second + 20, 10))
    assert refused_early(place.parts, second - 1200, second - 600) == set()


def test_versions_of_a_database_that_was_ahead_are_outbid(place: Place) -> None:
    """After a restore or a move the log begins lower: what its position names is below what the sinks hold."""
    ahead = place.position().place + 10**12
    update = "update {{events}} set version = {0}, duration_ms = 5 where event_id in (40, 41)"
    place.in_warehouse(update.format(ahead))
    rows = place.lake.read(place.spark).where("event_id in (40, 41)")
    rows = rows.withColumns({"version": F.lit(ahead), "duration_ms": F.lit(5)})
    rows.write.format("delta").mode("append").save(place.lake.path)
    place.deliveries.open(place.spark).update(
        "event_id in (40, 41)", {"version": F.lit(ahead), "digest_high": F.lit(1).cast("bigint")}
    )
    place.execute("delete from engagement_events where id = 41")
    wrong = {Kind.STALE: [40], Kind.PHANTOM: [41]}
    assert place.compare() == dict.fromkeys(_KEEPERS, wrong)
    place.mend()
    assert place.compare() == {}
    current = place.in_warehouse("select duration_ms from {current} where event_id in (40, 41)")
    assert [row["duration_ms"] for row in current] == [40]


def test_a_file_of_the_lake_that_is_gone_is_told_and_its_rows_are_brought_back(place: Place) -> None:
    mender = lake_mender(place.parts)
    assert mender.lost_files() == []
    files = [Path(uri.removeprefix("file://").replace("%20", " ")) for uri in DeltaTable(place.lake.path).file_uris()]
    files[0].unlink()
    place.spark.conf.set("spark.sql.files.ignoreMissingFiles", "true")
    try:
        assert len(mender.lost_files()) == 1
        mender.forget_lost_files()
        assert mender.lost_files() == []
        lost = place.compare()["lake"][Kind.MISSING]
        assert 0 < len(lost) < ROWS
        place.mend()
        assert place.compare() == {}
        assert place.lake.read(place.spark).count() == ROWS
        properties = place.lake.open(place.spark).detail().first()["properties"]
        assert properties["delta.appendOnly"] == "true"
    finally:
        place.spark.conf.unset("spark.sql.files.ignoreMissingFiles")
