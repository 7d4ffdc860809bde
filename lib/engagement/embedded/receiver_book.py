"""What the example receiver has taken: a row per idempotency key, in SQLite, so that a kill loses nothing answered."""

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TABLES = """
create table if not exists versions (
    number integer primary key, key text unique not null, event_id integer not null, version integer not null,
    op text not null, digest text not null, received integer not null default 1, conflicts integer not null default 0,
    first_at real not null, last_at real not null);
create index if not exists versions_of_event on versions (event_id, version);
create table if not exists requests (answer text primary key, count integer not null, last_at real not null);
"""
_TAKE = """
insert into versions (key, event_id, version, op, digest, first_at, last_at) values (?, ?, ?, ?, ?, ?, ?)
on conflict (key) do update set
    received = received + 1, conflicts = conflicts + (digest <> excluded.digest), last_at = excluded.last_at
"""
_NOTE = """
insert into requests (answer, count, last_at) values (?, 1, ?)
on conflict (answer) do update set count = count + 1, last_at = excluded.last_at
"""
_STATS = """
select count(*) as delivered, coalesce(sum(received - 1), 0) as repeats, coalesce(sum(conflicts), 0) as conflicts,
       count(distinct event_id) as events, coalesce(max(number), 0) as last_number
from versions
"""
_COLUMNS = "number, key, event_id, version, op, received, conflicts, first_at, last_at"
_PAGE = f"select {_COLUMNS} from versions where number > ? order by number limit ?"  # noqa: S608 names of ours
_EVENT = f"select {_COLUMNS} from versions where event_id = ? order by version"  # noqa: S608
_DIGEST_CHARACTERS = 32


@dataclass(frozen=True)
class Taken:
    """An event version as it came."""

    key: str
    event_id: int
    version: int
    op: str
    digest: str
    """Of the whole body: the same key must always bring the same one."""


def read_event(event: object) -> Taken | None:
    """Check what the contract says every event has; None when something is missing."""
    match event:
        case {"idempotency_key": str(key), "event_id": int(event_id), "version": int(version), "op": str(op)}:
            text = json.dumps(event, sort_keys=True, separators=(",", ":"))
            digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_CHARACTERS]
            return Taken(key, event_id, version, op, digest)
        case _:
            return None


class ReceiverBook:
    """The receiver's memory; used from one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: sqlite3.Connection | None = None

    def open(self) -> None:
        """Open it, and make its tables."""
        self._database = sqlite3.connect(self._path, isolation_level=None)
        self._database.row_factory = sqlite3.Row
        self._database.execute("pragma journal_mode = wal")
        # What was written survives the end of this process; a power cut is not what an example has to survive.
        self._database.execute("pragma synchronous = off")
        self._database.executescript(_TABLES)

    def take(self, events: Sequence[Taken], now: float) -> None:
        """Keep each key's first coming, and count the others; all of them or none."""
        rows = [(e.key, e.event_id, e.version, e.op, e.digest, now, now) for e in events]
        with self._opened:
            self._opened.execute("begin")
            self._opened.executemany(_TAKE, rows)

    def note(self, answer: str, now: float) -> None:
        """Count a request by what it was answered."""
        self._opened.execute(_NOTE, (answer, now))

    def stats(self) -> dict[str, Any]:
        """Versions delivered, repeats (of a key), conflicts (a key with another body), distinct events, answers."""
        answers = {row["answer"]: row["count"] for row in self._opened.execute("select answer, count from requests")}
        return {**dict(self._opened.execute(_STATS).fetchone()), "answers": answers}

    def versions(self, after: int, limit: int) -> list[dict[str, Any]]:
        """A page of what was taken, in the order in which it first came."""
        return [dict(row) for row in self._opened.execute(_PAGE, (after, limit))]

    def event(self, event_id: int) -> list[dict[str, Any]]:
        """The versions of one event."""
        return [dict(row) for row in self._opened.execute(_EVENT, (event_id,))]

    def close(self) -> None:
        """Close it; safe to call twice."""
        if self._database is not None:
            self._database.close()
            self._database = None

    @property
    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            raise RuntimeError("the book is not open")
        return self._database
