"""Rows of the events table as PostgreSQL copies them out, in the Spark task that transforms them.

By COPY and not over JDBC: no row enters the JVM, which has to warm up for seconds before it reads as fast as this from
the first row on. A task holds two batches at most, whatever it reads in all.
"""

import io
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from queue import Full, Queue

import psycopg2
import pyarrow as pa
from pyarrow import csv

from engagement.transform.changes import transform_rows
from engagement.transform.columns import repeated
from engagement.transform.content import Contents

_TIME = pa.timestamp("us", "UTC")
_TYPES = {
    "id": pa.int64(),
    **dict.fromkeys(("content_id", "user_id", "event_type"), pa.string()),
    "event_us": pa.int64(),
    "duration_ms": pa.int32(),
    **dict.fromkeys(("device", "raw_payload"), pa.string()),
}
COLUMNS = tuple(_TYPES)
"""What a statement has to give, in this order."""
_BATCH_ROWS, _BATCH_BYTES = 10_000, 8 * 2**20
_WAITING = 1
_LOOK_SECONDS = 0.1
_CONNECT_SECONDS = 5
_OPTIONS = "-c timezone=UTC -c client_encoding=UTF8"


@dataclass(frozen=True)
class CopiedRows:
    """Rows of the table, read and transformed in one task (a transform.changes.Transform of statements' numbers)."""

    database_url: str = field(repr=False)
    statements: tuple[str, ...]
    """Queries for COLUMNS; the rows' numbers in the frame (a column `id`) are places here."""
    read_us: int
    """When they are read, microseconds since 1970."""

    def __call__(self, numbers: Iterable[pa.RecordBatch], contents: Contents) -> Iterator[pa.RecordBatch]:
        """Read, decode, enrich. In: places. Out: CHANGES. Rows: 1 -> n. Raises: psycopg2.Error."""
        places = (place for batch in numbers for place in batch.column("id").to_pylist())
        rows = (batch for place in places for batch in copy_rows(self.database_url, self.statements[place]))
        return transform_rows((self._as_read(batch) for batch in rows), contents)

    def _as_read(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """In: COLUMNS. Out: TABLE_ROWS."""
        read = repeated(self.read_us, _TIME, rows.num_rows)
        return pa.RecordBatch.from_arrays([*rows.columns, read], [*COLUMNS, "read_ts"])


def copy_rows(database_url: str, statement: str) -> Iterator[pa.RecordBatch]:
    """What a query gives, batch by batch. Out: COLUMNS. Raises: psycopg2.Error."""
    outlet = _Outlet()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="copy") as pool:
        copying = pool.submit(_copy, database_url, statement, outlet)
        try:
            while lines := outlet.take():
                yield _parsed(lines)
            copying.result()
        finally:
            outlet.shut()


class _UnwantedError(Exception):
    """Nobody reads on."""


class _Outlet:
    """The file that COPY writes to, a row a call; another thread takes what gathers, batch by batch."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._bytes = 0
        self._batches: Queue[bytes] = Queue(_WAITING)
        self._shut = threading.Event()

    def write(self, line: bytes) -> int:
        """A row, whole; waits while batches are not taken as fast."""
        self._lines.append(line)
        self._bytes += len(line)
        if len(self._lines) >= _BATCH_ROWS or self._bytes >= _BATCH_BYTES:
            self.flush()
        return len(line)

    def flush(self) -> None:
        """Hand over what there is."""
        if self._lines:
            self._hand_over(b"".join(self._lines))
            self._lines, self._bytes = [], 0

    def end(self) -> None:
        """Nothing more comes."""
        with suppress(_UnwantedError):
            self._hand_over(b"")

    def take(self) -> bytes:
        """Whole rows; none when nothing more comes."""
        return self._batches.get()

    def shut(self) -> None:
        """Nobody takes any more: whoever writes is told so."""
        self._shut.set()

    def _hand_over(self, batch: bytes) -> None:
        while not self._shut.is_set():
            with suppress(Full):
                self._batches.put(batch, timeout=_LOOK_SECONDS)
                return
        raise _UnwantedError


def _copy(database_url: str, statement: str, outlet: _Outlet) -> None:
    try:
        database = psycopg2.connect(
            database_url, connect_timeout=_CONNECT_SECONDS, application_name="engagement-backfill", options=_OPTIONS
        )
        with closing(database), database.cursor() as cursor:
            cursor.copy_expert(f"copy ({statement}) to stdout (format csv)", outlet)
            outlet.flush()
    finally:
        outlet.end()


def _parsed(lines: bytes) -> pa.RecordBatch:
    """Lines of CSV as PostgreSQL writes it: NULL is nothing at all, an empty text is quoted."""
    table = csv.read_csv(
        io.BytesIO(lines),
        # One block: a row may be of any size, and is never cut in two.
        csv.ReadOptions(use_threads=False, block_size=len(lines) + 1, column_names=list(COLUMNS)),
        csv.ParseOptions(newlines_in_values=True),
        csv.ConvertOptions(
            column_types=_TYPES, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    )
    (batch,) = table.combine_chunks().to_batches()
    return batch
