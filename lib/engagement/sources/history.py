"""The events table itself: what lies in a range of event times, by ids, and how its rows are read in parallel.

Ranges of ids come from the rows as they are (`row_number` over the primary key): gaps, clusters and late events do not
make one reader wait for another, and nothing is skipped by counting (OFFSET).

A row that somebody has written but not committed cannot be read. `open_writers` names such transactions, so that a
backfill can wait for those that were there before it began: what a later one brings is the stream's to deliver.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from engagement.schemas import TABLE_ROWS
from engagement.sources.content import JdbcAddress, reading
from engagement.sources.postgres import connected
from engagement.sources.table_copy import COLUMNS, CopiedRows
from engagement.transform.instant import to_micros

_FETCH_ROWS = 10_000
"""Rows a JDBC reader holds at once; by itself PostgreSQL's driver would hold them all."""
_IDS = 500
"""Ids that one reader looks up."""
_NAME = "backfill"


@dataclass(frozen=True)
class Span:
    """Event times, `start` inclusive, `end` exclusive."""

    start: datetime
    end: datetime


@dataclass(frozen=True)
class IdRange:
    """Ids, both ends inclusive, and how many rows of the span they were seen to hold."""

    first: int
    last: int
    rows: int


@dataclass(frozen=True)
class DayCount:
    """The rows of one UTC day."""

    day: date
    rows: int
    first_id: int
    last_id: int


@dataclass(frozen=True)
class DigestSums:
    """The rows in one range of ids: their number, and the sums of the halves of their digests."""

    bucket: int
    events: int
    high: int
    low: int


@dataclass(frozen=True)
class LogPosition:
    """A place in the database's log, and a transaction id above those of all who wrote before it."""

    place: int
    next_xid: int


class EventsTable:
    """Reads `engagement_events`; connects for each question. Every method raises TransientError without PostgreSQL."""

    def __init__(self, database_url: str, sql: Path) -> None:
        self._url = database_url
        self._sql = sql

    def count_days(self, span: Span) -> list[DayCount]:
        """The days that hold rows of the span, with their number."""
        return [DayCount(*row) for row in self._ask("count_days", {"start": span.start, "end": span.end})]

    def pieces(self, span: Span, rows: int) -> list[IdRange]:
        """Ranges of ids that hold so many rows of the span each, the last one fewer; together all of them."""
        found = self._ask("plan_pieces", {"start": span.start, "end": span.end, "rows": rows})
        return [IdRange(*row) for row in found]

    def open_writers(self) -> dict[str, int | None]:
        """Transactions that have written to the table and are still open -> their process, None for prepared ones."""
        return {str(transaction): pid for transaction, pid in self._ask("open_writers", {})}

    def identity(self) -> str:
        """The database, told apart from all others; it stays the same when the address changes."""
        ((system, name),) = self._run("select system_identifier, current_database() from pg_control_system()", {})
        return f"{system}/{name}"

    def copied(self, pieces: Sequence[IdRange], span: Span, read_ts: datetime) -> CopiedRows:
        """The rows of some ranges of ids and a span of event times, one statement a range."""
        query, columns = self._text("read_rows"), ", ".join(COLUMNS)
        statements = [
            f"select {columns} from ({query}) as event_rows "  # noqa: S608 numbers and times of ours
            f"where id between {piece.first} and {piece.last} and {_within(span)}"
            for piece in pieces
        ]
        return CopiedRows(self._url, tuple(statements), to_micros(read_ts))

    def read_ids(self, spark: SparkSession, ids: Sequence[int], read_ts: datetime) -> DataFrame:
        """The rows of some ids that are there. Out: TABLE_ROWS."""
        parts = [
            f"id in ({', '.join(str(number) for number in ids[at : at + _IDS])})" for at in range(0, len(ids), _IDS)
        ]
        rows = self._load(spark, "read_rows", parts or ["false"])
        return rows.withColumn("read_ts", F.lit(read_ts)).select(*TABLE_ROWS.names)

    def digest_sums(self, first: int, last: int, width: int, span: Span | None) -> list[DigestSums]:
        """What reconcile compares of the rows with ids `first` to `last`, by ranges of `width` ids; computed there."""
        times = {"start": span.start if span else None, "end": span.end if span else None}
        found = self._ask("digest_sums", {"first": first, "last": last, "width": width, **times})
        return [DigestSums(*(int(number) for number in row)) for row in found]

    def ids_in(self, spans: Sequence[tuple[int, int]], span: Span | None) -> list[int]:
        """The ids of the rows in some ranges of ids."""
        wanted = " or ".join(f"id between {first} and {last}" for first, last in spans)
        times = f" and {_within(span)}" if span else ""
        text = f"select id from engagement_events where ({wanted}){times}"  # noqa: S608 numbers and times of ours
        return [int(number) for (number,) in self._run(text, {})] if spans else []

    def id_bounds(self) -> tuple[int, int] | None:
        """Smallest and largest id; None of an empty table."""
        ((first, last),) = self._ask("id_bounds", {})
        return None if first is None else (int(first), int(last))

    def log_position(self) -> LogPosition:
        """Where the database's log has got to."""
        # In this order: whoever wrote something before the place has an id by then, and so a lower one.
        ((place,),) = self._ask("log_position", {})
        ((next_xid,),) = self._ask("next_transaction", {})
        return LogPosition(int(place), int(next_xid))

    def is_settled(self, position: LogPosition) -> bool:
        """Whether everything that lies before a position of the log can be read by now."""
        ((oldest,),) = self._ask("oldest_transaction", {})
        return int(oldest) >= position.next_xid

    def _load(self, spark: SparkSession, statement: str, parts: Sequence[str]) -> DataFrame:
        address = JdbcAddress.from_database_url(self._url)
        query = f"({self._text(statement)}) as event_rows"
        properties = {**address.properties, "fetchsize": str(_FETCH_ROWS)}
        with self.reading():  # Spark asks for the columns at once, and for the rows when they are wanted
            return spark.read.jdbc(address.url, query, predicates=list(parts), properties=properties)

    def reading(self) -> AbstractContextManager[None]:
        """Hold this around whatever makes Spark read the rows: it raises TransientError then, as all else here does."""
        return reading("the events table", JdbcAddress.from_database_url(self._url))

    @contextmanager
    def exclusively(self, what: str) -> Iterator[None]:
        """Hold a lock of that name among all users of this database; waits for it, and it goes with the connection."""
        with connected(self._url, _NAME) as database, database.cursor() as cursor:
            cursor.execute("select pg_advisory_lock(hashtextextended(%s, 0))", (what,))
            yield

    def _ask(self, statement: str, parameters: Mapping[str, object]) -> list[tuple[Any, ...]]:
        return self._run(self._text(statement), parameters)

    def _text(self, statement: str) -> str:
        return (self._sql / f"{statement}.sql").read_text(encoding="utf-8")

    def _run(self, text: str, parameters: Mapping[str, object]) -> list[tuple[Any, ...]]:
        with connected(self._url, _NAME) as database, database.cursor() as cursor:
            cursor.execute(text, parameters)
            return cursor.fetchall()


def _within(span: Span) -> str:
    return f"event_ts >= '{span.start.isoformat()}' and event_ts < '{span.end.isoformat()}'"
