"""Rows that PostgreSQL copies out arrive as they are, whatever they hold, and nobody is left waiting for them."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pyarrow as pa
import pytest
from psycopg2.extensions import connection as Connection

from engagement.project import PROJECT
from engagement.schemas import ROW_COLUMNS
from engagement.sources.table_copy import COLUMNS, copy_rows

pytestmark = [pytest.mark.spark, pytest.mark.timeout(120)]

_READ = (PROJECT / "sql" / "backfill" / "read_rows.sql").read_text()
_STATEMENT = f"select {', '.join(COLUMNS)} from ({_READ}) as event_rows where {{where}}"  # noqa: S608 names of ours
_UUID = "c0000000-0000-4000-8000-000000000001"
_TEXTS = (
    None,
    "",
    '""',
    '"',
    ",",
    "\\N",
    "\\.",
    "NULL",
    " a ",
    "\r\n",
    "\n\\.\n",
    "é😀漢字",
    "\ufeff",
    "a\tb",
    "x" * 100_000,
)
_JSON = (None, "{}", '""', "null", '{"a": "\\n\\"é,"}', "[1, 2]")
_TIMES = (
    "2025-08-01 00:00:00.000001Z",
    "infinity",
    "-infinity",
    "0044-03-15 BC",
    "12000-01-01",
    "294246-12-31 23:59:59.999999Z",
    "294276-12-31 23:59:59.999999Z",  # more microseconds than a bigint holds
    "1969-12-31 23:59:59Z",
)


_LARGE = """
insert into engagement_events (id, event_type, event_ts, device)
select n, 'play', now(), case when n % 5000 = 0 then
    repeat('"a' || chr(10), 3000000) end from generate_series(1, 25000) n
"""
_MANY = """
insert into engagement_events (id, event_type, event_ts) select n, 'play', now() from generate_series(1, 200000) as n
"""


@pytest.fixture
def database(database_url: str) -> Iterator[Connection]:
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("truncate engagement_events")
        for name in ("event_type_check", "content_id_fkey"):
            cursor.execute(f"alter table engagement_events drop constraint if exists engagement_events_{name}")
        yield connection


def select(database: Connection, where: str) -> list[tuple[Any, ...]]:
    with database.cursor() as cursor:
        cursor.execute(_STATEMENT.format(where=where))
        return cursor.fetchall()


def copied(url: str, where: str) -> list[tuple[Any, ...]]:
    batches = copy_rows(url, _STATEMENT.format(where=where))
    return [tuple(row.values()) for batch in batches for row in batch.to_pylist()]


def _fits(moment: str) -> bool:
    return not moment.startswith(("infinity", "-infinity", "294276"))


def insert(database: Connection, rows: list[tuple[Any, ...]]) -> None:
    with database.cursor() as cursor:
        cursor.executemany("insert into engagement_events values (%s, %s, %s, %s, %s, %s, %s, %s)", rows)


def test_the_columns_are_those_of_the_table() -> None:
    assert [name.replace("event_us", "event_ts") for name in COLUMNS] == list(ROW_COLUMNS)


def test_every_value_arrives_as_it_is(database: Connection, database_url: str) -> None:
    plain = (_UUID, _UUID, "play", "2025-08-01 00:00:00Z", 1, "ios", "{}")
    values = [(3, text) for text in _TIMES] + [(4, n) for n in (None, 0, -(2**31), 2**31 - 1)]
    values += [(5, text) for text in _TEXTS] + [(6, text) for text in _JSON] + [(0, None), (1, None)]
    values += [(2, text) for text in _TEXTS if text is not None]
    rows = [(number, *plain[:place], value, *plain[place + 1 :]) for number, (place, value) in enumerate(values, -3)]
    insert(database, [*rows, (2**63 - 1, *plain)])
    wanted = sorted(select(database, "true"), key=lambda row: row[0])
    assert len(wanted) == len(rows) + 1
    assert [row[4] is None for row in wanted[: len(_TIMES)]] == [not _fits(text) for text in _TIMES]
    assert sorted(copied(database_url, "true"), key=lambda row: row[0]) == wanted


@pytest.mark.usefixtures("database")
def test_no_rows_are_no_batch(database_url: str) -> None:
    assert copied(database_url, "false") == []


def test_many_rows_and_large_ones_come_in_batches_of_whole_rows(database: Connection, database_url: str) -> None:
    with database.cursor() as cursor:
        cursor.execute(_LARGE)
    batches: list[pa.RecordBatch] = list(copy_rows(database_url, _STATEMENT.format(where="true")))
    assert len(batches) >= 5
    assert sorted(number for batch in batches for number in batch.column("id").to_pylist()) == list(range(1, 25_001))
    assert {len(text) for batch in batches for text in batch.column("device").to_pylist() if text} == {9_000_000}


def test_who_reads_no_further_leaves_no_connection(database: Connection, database_url: str) -> None:
    with database.cursor() as cursor:
        cursor.execute(_MANY)
    rows = copy_rows(database_url, _STATEMENT.format(where="true"))
    assert next(rows).num_rows == 10_000
    rows.close()
    deadline = time.monotonic() + 20
    others = "select count(*) from pg_stat_activity where application_name = 'engagement-backfill'"
    while time.monotonic() < deadline:
        with database.cursor() as cursor:
            cursor.execute(others)
            if cursor.fetchone() == (0,):
                return
    pytest.fail("the copy goes on")


def test_errors_reach_who_reads(database: Connection, database_url: str, tmp_path: Path) -> None:
    insert(database, [(n, None, None, "play", "2025-08-01 00:00:00Z", n, None, None) for n in range(3)])
    with pytest.raises(psycopg2.errors.DivisionByZero):
        copied(database_url, "1 / (duration_ms - 2) < 9")
    with pytest.raises(psycopg2.OperationalError):
        copied(f"postgresql:///none?host={tmp_path}", "true")
