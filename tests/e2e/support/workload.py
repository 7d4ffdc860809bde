"""Rows as life brings them: inserts, updates, deletes, late, NULL, invalid, in transactions; some are rolled back."""

import random
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import TracebackType
from uuid import UUID

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import execute_values
from tests.e2e.support.ledger import Ledger
from tests.e2e.support.processes import await_that

CONTENTS, USERS = 40, 20
LEAST_ROWS, LEAST_SECONDS = 800, 30.0
_FULL_SECONDS, _LATER = 20.0, 0.2
"""For so long rows come at the rate that was asked for, then at this share of it: otherwise a machine that has other
work to do as well would get more of it the longer that takes."""
_TYPES = ("play", "pause", "finish", "click")
_LENGTHS = (30, 61, 300, 1_234, 3_600, 7, None, 0, -5)
_MOST_PER_TRANSACTION = 20
_UPDATES, _DELETES, _LATE, _NULLS, _AHEAD, _ROLLBACKS = 0.05, 0.02, 0.03, 0.03, 0.02, 0.02
_SPOILT, _INVALID = 0.01, 0.5
"""Transactions with rows that must be refused, and their share of these rows. Letters come in bursts, and not in every
micro-batch of the lake, which pays for a merge what all its rows cost."""
_INSERT = (
    "insert into engagement_events (content_id, user_id, event_type, event_ts, duration_ms, device) "
    "values %s returning id"
)
_UPDATE = "update engagement_events set content_id = %s, event_type = %s, duration_ms = %s where id = %s"


@dataclass(frozen=True)
class Event:
    """What a row holds."""

    content_id: str | None
    event_type: str
    event_ts: datetime
    duration_ms: int | None


def content_ids() -> list[str]:
    """The catalogue of the tests; popular ones first."""
    return [str(UUID(int=0xE2E << 96 | number)) for number in range(CONTENTS)]


def user_ids() -> list[str]:
    """Who causes every other event."""
    return [str(UUID(int=0xCA9A << 96 | number)) for number in range(USERS)]


def make_contents(database: Connection, ledger: Ledger) -> None:
    """Insert the catalogue: lengths that divide badly, that are missing, zero or negative."""
    rows = []
    for number, content_id in enumerate(content_ids()):
        length = _LENGTHS[number % len(_LENGTHS)]
        ledger.note_length(content_id, length)
        kind = "newsletter" if length is None else "video"
        rows.append((content_id, f"e2e-{number}", f"Content {number}", kind, length))
    with database, database.cursor() as cursor:
        execute_values(
            cursor,
            "insert into content (id, slug, title, content_type, length_seconds, publish_ts) values %s",
            rows,
            template="(%s, %s, %s, %s, %s, now())",
        )


def insert(cursor: Cursor, ledger: Ledger, events: list[Event]) -> list[int]:
    """Insert rows within the caller's transaction; noted before the commit."""
    users = [*user_ids(), *[None] * USERS]
    rows = [(e.content_id, random.choice(users), e.event_type, e.event_ts, e.duration_ms, "e2e") for e in events]
    ids = [int(row[0]) for row in execute_values(cursor, _INSERT, rows, fetch=True)]
    for event_id, event in zip(ids, events, strict=True):
        ledger.note(event_id, event.content_id, event.event_type, event.event_ts, event.duration_ms)
    return ids


class Workload:
    """Writes until left; use as a context manager. An outage of PostgreSQL costs it time, never its end."""

    def __init__(self, connect: Callable[[], Connection], ledger: Ledger, window: timedelta, rate: int) -> None:
        self._connect = connect
        self._ledger = ledger
        self._window = window
        self._rate = rate
        self._random = random.Random()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="workload", daemon=True)
        self._live: dict[int, Event] = {}
        self._error: BaseException | None = None
        self.committed = 0
        """Statements (inserts, updates, deletes) known to be committed."""

    def __enter__(self) -> "Workload":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:  # however fast the micro-batches were that the test waited for
                await_that(lambda: self.committed >= LEAST_ROWS, LEAST_SECONDS, "the workload does not get on")
        finally:
            self.stop()

    def stop(self) -> None:
        """End after the transaction under way; safe to call twice."""
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        began, planned = time.monotonic(), 0
        try:
            while not self._stop.is_set():
                try:
                    with closing(self._connect()) as database:
                        while not self._stop.is_set():
                            planned += self._transaction(database)
                            self._stop.wait(max(0.0, self._due(planned) - (time.monotonic() - began)))
                except psycopg2.OperationalError:
                    self._stop.wait(0.2)
                    began, planned = time.monotonic(), 0
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread by `stop`
            self._error = error

    def _due(self, statements: int) -> float:
        """Seconds after which so many statements have been due."""
        full = min(statements / self._rate, _FULL_SECONDS)
        return full + (statements - full * self._rate) / (self._rate * _LATER)

    def _transaction(self, database: Connection) -> int:
        """One transaction; rows whose commit nobody answered are never touched again."""
        size = self._random.randint(1, _MOST_PER_TRANSACTION)
        changes: dict[int, Event | None] = {}
        with database.cursor() as cursor:
            share = _INVALID if self._random.random() < _SPOILT else 0.0
            new = [self._event(share) for _ in range(size)]
            changes.update(zip(insert(cursor, self._ledger, new), new, strict=True))
            for event_id in self._some(1 if share else size * _UPDATES):
                changes[event_id] = self._update(cursor, event_id, share)
            for event_id in self._some(size * _DELETES):
                cursor.execute("delete from engagement_events where id = %s", (event_id,))
                changes[event_id] = None
        before = {event_id: self._live.pop(event_id) for event_id in changes if event_id in self._live}
        if self._random.random() < _ROLLBACKS:
            database.rollback()
            self._live |= before
            return size
        database.commit()
        self._live |= {event_id: event for event_id, event in changes.items() if event is not None}
        self.committed += len(changes)
        return len(changes)

    def _update(self, cursor: Cursor, event_id: int, invalid_share: float) -> Event:
        old = self._live[event_id]
        new = replace(
            old,
            content_id=self._content() if self._random.random() < 0.3 else old.content_id,
            event_type=self._random.choice(_TYPES),
            duration_ms=-1 if self._random.random() < invalid_share else self._duration(),
        )
        self._ledger.note(event_id, new.content_id, new.event_type, new.event_ts, new.duration_ms)
        cursor.execute(_UPDATE, (new.content_id, new.event_type, new.duration_ms, event_id))
        return new

    def _some(self, mean: float) -> list[int]:
        count = int(mean) + (self._random.random() < mean % 1)
        return self._random.sample(sorted(self._live)[-2_000:], min(count, len(self._live)))

    def _event(self, invalid_share: float) -> Event:
        now = datetime.now(UTC)
        late, ahead, invalid = (self._random.random() < share for share in (_LATE, _AHEAD, invalid_share))
        age = self._random.expovariate(1 / 15)
        if late:
            age += self._window.total_seconds() + 20
        moment = now + timedelta(seconds=self._random.uniform(0, 40)) if ahead else now - timedelta(seconds=age)
        event = Event(self._content(), self._random.choice(_TYPES), moment, self._duration())
        return self._spoiled(event) if invalid else event

    def _spoiled(self, event: Event) -> Event:
        """A row that PostgreSQL takes and the pipeline must refuse."""
        return self._random.choice(
            [
                replace(event, duration_ms=-self._random.randint(1, 9_999)),
                replace(event, event_ts=event.event_ts + timedelta(days=2)),
                replace(event, event_ts=datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC)),
            ]
        )

    def _content(self) -> str | None:
        if self._random.random() < _NULLS:
            return None
        return content_ids()[min(int(self._random.expovariate(0.12)), CONTENTS - 1)]

    def _duration(self) -> int | None:
        return None if self._random.random() < 0.2 else self._random.randint(0, 400_000)
