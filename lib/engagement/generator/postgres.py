"""The generator's connection to PostgreSQL: comes back by itself, never counts a row that is not there."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from random import Random
from typing import TypeVar

import psycopg2
from psycopg2.extensions import connection, cursor

from engagement.errors import EngagementError, PermanentError, TransientError
from engagement.generator.catalogue import ContentRow
from engagement.generator.events import EventRow
from engagement.generator.store import Batch, Stop, Written
from engagement.project import PROJECT

LOG = logging.getLogger(__name__)
Result = TypeVar("Result")

_SQL_FOLDER = PROJECT / "sql" / "generator"
_CONNECT_SECONDS = 5
_RETRY_SECONDS = (0.2, 0.6)
_COMMITTED = "committed"
_IN_PROGRESS = "in progress"
# A broken connection shows as either of the two; deadlocks and shutdowns are kinds of the first.
_BROKEN = (psycopg2.OperationalError, psycopg2.InterfaceError)


class _UncertainCommitError(Exception):
    """The connection died between the commit and its answer; only the server knows what became of `transaction`."""

    def __init__(self, transaction: str, written: Written) -> None:
        self.transaction = transaction
        self.written = written
        super().__init__(transaction)


class PostgresStore:
    """Writes batches to PostgreSQL, one transaction each; implements EventStore.

    Exactly once: a batch whose commit was not answered is looked up by its transaction id after reconnecting, and
    written again only when it was rolled back.
    """

    def __init__(self, database_url: str, chance: Random | None = None) -> None:
        self._url = database_url
        # Waits before reconnecting are spread a little; nothing secret depends on it.
        self._chance = chance or Random()  # noqa: S311
        self._connection: connection | None = None
        self._interruptions = 0

    @property
    def interruptions(self) -> int:
        """How often the connection was lost and made again."""
        return self._interruptions

    def open(self) -> None:
        """Connect; EngagementError when PostgreSQL refuses or is not there: before the first row that is no restart."""
        try:
            self._connected()
        except _BROKEN as error:
            raise EngagementError(f"cannot connect to PostgreSQL (DATABASE_URL): {_first_line(error)}") from error

    def add_content(self, catalogue: Sequence[ContentRow]) -> None:
        """Insert the contents that are missing. Raises: TransientError, PermanentError."""
        rows = _json([asdict(row) for row in catalogue])

        def insert(cursor: cursor) -> None:
            cursor.execute(_sql("insert_content"), {"rows": rows})

        self._prepare(insert)

    def count_day(self, day: date) -> int:
        """Count the events that happened on a UTC day. Raises: TransientError, PermanentError."""
        start = datetime.combine(day, time(), UTC)

        def count(cursor: cursor) -> int:
            cursor.execute(_sql("count_day"), {"start": start, "end": start + timedelta(days=1)})
            return int(str(_value(cursor)))

        return self._prepare(count)

    def write(self, batch: Batch, stop: Stop) -> Written | None:
        """Commit the batch exactly once, however often the connection breaks; None when stopped before that."""
        while not stop.is_set():
            try:
                return self._attempt(batch)
            except _UncertainCommitError as doubt:
                self._lost(doubt)
                if self._became_committed(doubt.transaction, stop):
                    return doubt.written
            except _BROKEN as error:
                self._lost(error)
                stop.wait(self._chance.uniform(*_RETRY_SECONDS))
            except psycopg2.Error as error:
                raise _refusal(error) from error
        return None

    def close(self) -> None:
        """Disconnect; an open transaction is rolled back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _attempt(self, batch: Batch) -> Written:
        opened = self._connected()
        with opened.cursor() as cursor:
            cursor.execute(_sql("insert_events"), {"rows": _json([_event(row) for row in batch.rows])})
            ids = [int(row[0]) for row in cursor.fetchall()]
            updated = deleted = 0
            if batch.updates:
                cursor.execute(_sql("update_events"), {"rows": _json([_update(*one) for one in batch.updates])})
                updated = cursor.rowcount
            if batch.deletes:
                cursor.execute(_sql("delete_events"), {"ids": list(batch.deletes)})
                deleted = cursor.rowcount
            cursor.execute(_sql("transaction_id"))
            transaction = str(_value(cursor))
        written = Written(ids, updated, deleted)
        try:
            opened.commit()
        except _BROKEN as error:
            raise _UncertainCommitError(transaction, written) from error
        return written

    def _became_committed(self, transaction: str, stop: Stop) -> bool:
        """Ask until the server answers; when stopped first, the batch counts as not written."""

        def outcome(cursor: cursor) -> str:
            cursor.execute(_sql("transaction_outcome"), {"transaction": transaction})
            return str(_value(cursor))

        while not stop.is_set():
            try:
                found = self._transaction(outcome)
            except _BROKEN as error:
                self.close()
                LOG.debug("PostgreSQL is still away: %s", _first_line(error))
            except psycopg2.DataError:
                return False  # "transaction ID is in the future": the server came back without it
            else:
                if found != _IN_PROGRESS:
                    return found == _COMMITTED
            stop.wait(self._chance.uniform(*_RETRY_SECONDS))
        return False

    def _prepare(self, work: Callable[[cursor], Result]) -> Result:
        """What precedes the first row is not tried again: whoever started the run is still there to see why."""
        try:
            return self._transaction(work)
        except _BROKEN as error:
            lost = f"lost PostgreSQL (DATABASE_URL) before the first row: {_first_line(error)}"
            raise TransientError(f"{lost}; start again when it answers") from error
        except psycopg2.Error as error:
            raise _refusal(error) from error

    def _transaction(self, work: Callable[[cursor], Result]) -> Result:
        opened = self._connected()
        with opened, opened.cursor() as cursor:
            return work(cursor)

    def _connected(self) -> connection:
        if self._connection is None:
            self._connection = psycopg2.connect(
                self._url, connect_timeout=_CONNECT_SECONDS, application_name="engagement-generate"
            )
        return self._connection

    def _lost(self, error: Exception) -> None:
        if self._connection is not None:
            self._interruptions += 1
            LOG.warning("lost PostgreSQL, trying again until it is back: %s", _first_line(error.__cause__ or error))
        self.close()


def _refusal(error: psycopg2.Error) -> PermanentError:
    return PermanentError(
        f"PostgreSQL (DATABASE_URL) refused: {_first_line(error)}; "
        "it needs the tables of sql/postgres/schema.sql, the contents that each start adds, and a user who may write"
    )


def _event(row: EventRow) -> dict[str, object]:
    return row._asdict()


def _update(event_id: int, row: EventRow) -> dict[str, object]:
    return {
        "id": event_id,
        "content_id": row.content_id,
        "event_type": row.event_type,
        "duration_ms": row.duration_ms,
    }


def _json(rows: Sequence[dict[str, object]]) -> str:
    return json.dumps(rows, default=_iso)


def _iso(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form here")


def _value(cursor: cursor) -> object:
    row = cursor.fetchone()
    return row[0] if row else None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@cache
def _sql(name: str) -> str:
    return (_SQL_FOLDER / f"{name}.sql").read_text(encoding="utf-8")
