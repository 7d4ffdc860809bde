"""The warehouse as its readers see it: how long rows take to be visible, and what it holds in the end."""

import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import duckdb
from google.api_core.exceptions import NotFound
from psycopg2.extensions import connection as Connection

from engagement.demo.probe import Freshness
from engagement.demo.versions import STORED, VersionComparison, compare_versions
from engagement.errors import EngagementError, TransientSinkError
from engagement.sinks.bigquery.client import WarehouseOptions
from engagement.sinks.bigquery.rest import ListParameter, Parameter, Rest

_LOST_AFTER_SECONDS = 120.0


class WarehouseProbe:
    """Times how long committed events take until a query of the warehouse finds them; asks every few seconds."""

    def __init__(
        self,
        find: Callable[[Sequence[int]], Collection[int]],
        interval_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._find = find
        self._interval = interval_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._pending: dict[int, float] = {}
        self._seconds: list[float] = []
        self._given_up = 0

    def note(self, event_id: int) -> None:
        """An event was committed just now."""
        with self._lock:
            self._pending[event_id] = self._clock()

    def run(self, stop: threading.Event) -> None:
        """Ask until told to stop; a warehouse that does not answer costs no sample, only time."""
        while not stop.wait(self._interval):
            try:
                self.look()
            except EngagementError:
                continue  # the next look finds what is visible by then, and counts the outage as its delay

    def look(self) -> None:
        """Ask once which events are visible. Raises: EngagementError."""
        with self._lock:
            pending = dict(self._pending)
        found = self._find(list(pending)) if pending else ()
        now = self._clock()
        with self._lock:
            for event_id in found:
                if self._pending.pop(event_id, None) is not None:  # else forgotten meanwhile, or seen by another look
                    self._seconds.append(now - pending[event_id])
            for event_id, at in pending.items():
                if now - at > _LOST_AFTER_SECONDS and self._pending.pop(event_id, None) is not None:
                    self._given_up += 1

    def forget(self) -> None:
        """Drop what was measured so far, and what is on its way: the warm-up."""
        with self._lock:
            self._seconds.clear()
            self._pending.clear()
            self._given_up = 0

    def missed(self) -> int:
        """Events that were not visible within two minutes, or are not yet."""
        with self._lock:
            return self._given_up + len(self._pending)

    def freshness(self) -> Freshness | None:
        """The distribution; None without samples."""
        with self._lock:
            return Freshness.of(self._seconds)


class Warehouse:
    """One dataset, asked through the API that anybody would use; opens nothing before it is asked."""

    def __init__(self, options: WarehouseOptions) -> None:
        self._rest = Rest(options)

    def visible(self, event_ids: Sequence[int]) -> set[int]:
        """Those of some events that a query finds. Raises: TransientSinkError."""
        rows = self._rest.run("visible_events", [ListParameter("event_ids", "INT64", list(event_ids))]).rows
        return {int(row["event_id"]) for row in rows}

    def compare(self, database: Connection, sql_folder: Path, after: int) -> VersionComparison | None:
        """Compare events with an id above `after`; None while there is no table."""
        try:
            rows = self._rest.table("row_versions", [Parameter("after", "INT64", after)])
        except TransientSinkError as error:
            if isinstance(error.__cause__, NotFound):
                return None
            raise
        with duckdb.connect() as engine:
            engine.register(STORED, rows)
            return compare_versions(database, engine, sql_folder, after, exact_json=False)

    def close(self) -> None:
        """Let go of the connection."""
        self._rest.close()
