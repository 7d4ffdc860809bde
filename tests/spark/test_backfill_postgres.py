"""Backfill against a real PostgreSQL: which rows it plans, how it reads them, and the command when it is killed."""

import random
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path

import psycopg2
import pytest
from deltalake import DeltaTable
from jobs.backfill import COMMAND
from psycopg2.extensions import connection as Connection
from pyspark.sql import SparkSession
from tests.builders import CONTENT_ID
from tests.e2e.support.processes import JobProcess, await_that
from tests.e2e.support.world import host_environment

from engagement.backfill.sources import TableSource
from engagement.command import main
from engagement.project import PROJECT
from engagement.settings import SettingsFiles
from engagement.sources.content import ContentCatalogue, JdbcAddress
from engagement.sources.history import EventsTable, Span
from engagement.streaming.options import content_query, now

pytestmark = [pytest.mark.spark, pytest.mark.timeout(600)]

SPAN = Span(datetime(2025, 8, 1, tzinfo=UTC), datetime(2025, 8, 11, tzinfo=UTC))
ROWS, CHUNK_ROWS = 4_000, 10
_PAYLOAD = '{"b": [1, {}], "a": 1.50}'
_ONE = "insert into engagement_events (event_type, event_ts) values ('click', %s)"
_CONTENT = "insert into content values (%s, 'a', 'A', 'podcast', 60, now()) on conflict do nothing"
_MANY = """
insert into engagement_events (content_id, user_id, event_type, event_ts, duration_ms, device, raw_payload)
select %(content)s, null, 'play', timestamptz '2025-08-01 00:00Z' + n * interval '3 minutes',
    case when n %% 100 = 7 then -n else n end, 'ios', jsonb_build_object('n', n)
from generate_series(0, %(rows)s - 1) as n
"""


@pytest.fixture
def database(database_url: str) -> Iterator[Connection]:
    """A connection; the table is empty, and has no constraint that would keep odd rows out."""
    with closing(psycopg2.connect(database_url)) as connection:
        with connection, connection.cursor() as cursor:
            cursor.execute("truncate engagement_events")
            cursor.execute("alter table engagement_events drop constraint if exists engagement_events_event_type_check")
            cursor.execute(_CONTENT, (CONTENT_ID,))
        yield connection


def execute(database: Connection, sql: str, parameters: object = None) -> None:
    with database, database.cursor() as cursor:
        cursor.execute(sql, parameters)


@pytest.fixture
def table(database_url: str) -> EventsTable:
    return EventsTable(database_url, PROJECT / "sql" / "backfill")


def source_of(spark: SparkSession, table: EventsTable, url: str, span: Span = SPAN) -> TableSource:
    catalogue = ContentCatalogue(spark, JdbcAddress.from_database_url(url), content_query())
    return TableSource(spark, table, catalogue, span, CHUNK_ROWS, now, threading.Event(), lambda _: None)


def test_ranges_hold_equally_many_rows_whatever_gaps_the_ids_have(database: Connection, table: EventsTable) -> None:
    ids = [*range(1, 40), *range(10**6, 10**6 + 30), 2**62]
    insert = "insert into engagement_events (id, event_type, event_ts) select n, 'click', %s from unnest(%s) as n"
    execute(database, insert, (SPAN.start, ids))
    execute(database, insert, (SPAN.end, [10**7]))  # the end does not belong to the range
    pieces = table.pieces(SPAN, 20)
    assert [piece.rows for piece in pieces] == [20, 20, 20, 10]
    assert [(piece.first, piece.last) for piece in pieces[:2]] == [(1, 20), (21, 10**6)]
    assert (pieces[-1].last, sum(day.rows for day in table.count_days(SPAN))) == (2**62, 70)


def test_ranges_leave_no_gap_for_rows_that_are_committed_meanwhile(
    spark: SparkSession,
    database: Connection,
    table: EventsTable,
    database_url: str,
) -> None:
    insert = "insert into engagement_events (id, event_type, event_ts) select n, 'click', %s from unnest(%s) as n"
    execute(database, insert, (SPAN.start, list(range(10, 260, 10))))
    source = source_of(spark, table, database_url)
    planned = source.plan()
    execute(
        database, "insert into engagement_events (id, event_type, event_ts) values (105, 'click', %s)", (SPAN.start,)
    )
    found = [row.event_id for chunk in planned for row in source.chunk(chunk, "x").changes.frame().collect()]
    assert sorted(found) == sorted([*range(10, 260, 10), 105])


def test_rows_are_read_as_they_are(
    spark: SparkSession, database: Connection, table: EventsTable, database_url: str
) -> None:
    rows = [
        (
            1,
            CONTENT_ID,
            CONTENT_ID,
            "play",
            "2025-08-02 03:04:05.123456+02",
            45_000,
            'a"\\é😀',
            '{"b": [1, {}], "a": 1.50}',
        ),
        (2, None, None, "click", "2025-08-02 00:00:00Z", None, None, None),
        (3, None, None, "jump", "2025-08-02 00:00:00Z", 1, "x", '"text"'),
        (4, None, None, "play", "infinity", 1, "x", "[1]"),
        (5, None, None, "play", "0044-03-15 00:00:00Z BC", 1, "x", "1"),
        (6, None, None, "play", "12000-01-01 00:00:00Z", 1, "x", "null"),
    ]
    for row in rows:
        execute(database, "insert into engagement_events values (%s, %s, %s, %s, %s, %s, %s, %s)", row)
    everything = Span(datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))
    source = source_of(spark, table, database_url, everything)
    found = {row.event_id: row for chunk in source.plan() for row in source.chunk(chunk, "x").changes.frame().collect()}
    assert sorted(found) == [1, 2, 3]  # the others lie outside of any range that can be asked for
    first = found[1]
    assert (first.content_id, first.user_id, first.title, first.version) == (CONTENT_ID, CONTENT_ID, "A", 0)
    assert str(first.event_ts) == "2025-08-02 01:04:05.123456"
    assert (first.device, first.raw_payload) == ('a"\\é😀', '{"a": 1.50, "b": [1, {}]}')
    assert (first.engagement_seconds, first.engagement_pct) == (Decimal("45.000"), Decimal("75.00"))
    assert [found[n].code for n in (1, 2, 3)] == [None, None, "E_EVENT_TYPE"]


@pytest.mark.usefixtures("database")
def test_transactions_that_wrote_before_are_waited_for_and_later_ones_are_not(
    spark: SparkSession,
    table: EventsTable,
    database_url: str,
) -> None:
    said: list[str] = []
    source = source_of(spark, table, database_url)
    with closing(psycopg2.connect(database_url)) as early, closing(psycopg2.connect(database_url)) as late:
        early.cursor().execute(_ONE, (SPAN.start,))

        def commit_once_somebody_waits(text: str) -> None:
            said.append(text)
            if len(said) == 1:
                late.cursor().execute(_ONE, (SPAN.start,))
            elif len(said) == 3:
                early.commit()

        source.say = commit_once_somebody_waits
        assert source.await_writers() == []
        assert len(said) >= 3
        assert sum(chunk.rows for chunk in source.plan()) == 1  # that of the early one; the late one is still open
        late.commit()
    assert table.open_writers() == {}


@pytest.mark.usefixtures("database")
def test_a_transaction_that_stays_open_is_named(
    spark: SparkSession,
    table: EventsTable,
    database_url: str,
) -> None:
    source = source_of(spark, table, database_url)
    source.stop.set()  # told to stop, it waits no longer
    with closing(psycopg2.connect(database_url)) as writer:
        writer.cursor().execute(
            "insert into engagement_events (event_type, event_ts) values ('click', %s)", (SPAN.start,)
        )
        (named,) = source.await_writers()
        assert f"process {writer.get_backend_pid()}" in named


def test_a_dry_run_counts_by_day_and_writes_nothing(
    database: Connection, database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    execute(database, _MANY, {"content": CONTENT_ID, "rows": 500})  # one every three minutes
    environment = {"DATABASE_URL": database_url, "ENGAGEMENT_HOME": str(tmp_path), "BACKFILL_BATCH_SIZE": "300"}
    words = ["--start-date", "2025-08-01", "--end-date", "2025-08-11", "--dry-run"]
    assert main(COMMAND, words, environment, SettingsFiles(tmp_path)) == 0
    told = capsys.readouterr().out
    assert "2025-08-01           480 rows" in told
    assert "500 rows in 2 days, 2 chunks of up to 300 rows" in told
    assert "would add the rows that the lake's table lacks" in told
    assert list(tmp_path.iterdir()) == []


def chunks_done(home: Path) -> int:
    return sum(path.read_text().count('"done"') for path in (home / "backfill").glob("*.jsonl"))


def has_done(home: Path, chunks: int) -> bool:
    return chunks_done(home) >= chunks


def test_a_backfill_that_is_killed_goes_on_and_ends_with_each_row_once(
    database: Connection,
    database_url: str,
    tmp_path: Path,
) -> None:
    execute(database, _MANY, {"content": CONTENT_ID, "rows": ROWS})
    environment = {
        **host_environment(), "DATABASE_URL": database_url, "ENGAGEMENT_HOME": str(tmp_path),
        "LAKE_PATH": str(tmp_path / "a lake"), "BACKFILL_BATCH_SIZE": "200", "SPARK_MASTER": "local[2]", "TZ": "UTC",
    }  # fmt: skip
    arguments = ("--start-date", "2025-08-01", "--end-date", "2025-08-11", "--sinks", "lake")
    chance = random.Random()
    for attempt in range(2):
        job = JobProcess("backfill", arguments, environment, tmp_path / f"{attempt}.log")
        job.start()
        last = attempt == 1
        if last:
            assert job.wait(200) == 0, job.tail()
        else:
            wanted = chunks_done(tmp_path) + chance.randrange(1, 3)
            await_that(partial(has_done, tmp_path, wanted), 120, job.tail)
            threading.Event().wait(chance.uniform(0, 0.3))  # somewhere within a chunk
            job.kill()
    assert "going on with" in job.text()
    lake = DeltaTable(str(tmp_path / "a lake" / "enriched_events")).to_pyarrow_table(columns=["event_id", "version"])
    letters = DeltaTable(str(tmp_path / "a lake" / "dead_letters")).to_pyarrow_table(columns=["kafka_offset", "code"])
    with database, database.cursor() as cursor:
        cursor.execute("select id, duration_ms < 0 from engagement_events order by id")
        stored = cursor.fetchall()
    assert sorted(lake["event_id"].to_pylist()) == [n for n, refused in stored if not refused]
    assert sorted(letters["kafka_offset"].to_pylist()) == [n for n, refused in stored if refused]
    assert set(lake["version"].to_pylist()) == {0}
