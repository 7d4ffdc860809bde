"""The judgement of an unattended demo: once everything is at rest, the sinks must show what PostgreSQL has."""

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

import psycopg2
from psycopg2.extensions import connection as Connection
from redis import Redis
from redis.exceptions import RedisError

from engagement.demo.lake import compare_lake
from engagement.demo.patience import Patience
from engagement.demo.reference import BoardComparison, compare, redis_seconds, window_of
from engagement.demo.versions import VersionComparison
from engagement.demo.warehouse import Warehouse
from engagement.errors import EngagementError, TransientError, first_line
from engagement.settings import Settings
from engagement.sources.board import expected_board

_REST_LIMIT_SECONDS = 90.0
_WINDOW_SHARE = 0.25
"""Of the window: no more patience with the board than that, since what it lost leaves the window meanwhile."""
_LOOK_SECONDS = 1.0
_TABLE_LOOK_SECONDS = 3.0
_SHOWN = 10

Found = TypeVar("Found", BoardComparison, VersionComparison)


class Judge:
    """Compares until equal, out of patience or told to stop: rest is reached when nothing is missing any more."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        client: Redis,
        settings: Settings,
        sql_folder: Path,
        say: Callable[[str], None],
        patience: Patience,
    ) -> None:
        self._connect = connect
        self._redis = client
        self._settings = settings
        self._sql_folder = sql_folder
        self._say = say
        self._patience = patience

    def board_at_rest(self) -> BoardComparison | None:
        """The live window on the board against the rows; None when told to stop before it was compared.

        What is still forgiven: rows of the window's oldest part, which the board lost and which left the window while
        it was looked at: as much of it as there is patience, 90 s and at most a quarter of the window.

        Raises: TransientError when it could never be looked at.
        """
        sql = (self._sql_folder / "board.sql").read_text()
        seconds = min(_REST_LIMIT_SECONDS, _WINDOW_SHARE * self._settings.redis.window_seconds)
        found, why = self._at_rest("board", seconds, _LOOK_SECONDS, lambda rows: self._compare_board(rows, sql))
        if self._patience.stop.is_set():
            return found
        if found is None:
            raise TransientError(f"the board could not be compared for {seconds:.0f} s: {why}")
        for difference in found.differences[:_SHOWN]:
            self._say(f"  differs: {difference}")
        return found

    def lake_at_rest(self, after: int) -> VersionComparison | None:
        """The lake's newest versions of events with an id above `after` against the rows.

        None without any, and where it could never be looked at.
        """
        lake = Path(self._settings.paths.lake_path)
        look = partial(compare_lake, lake=lake, sql_folder=self._sql_folder, after=after)
        return self._at_rest("lake", _REST_LIMIT_SECONDS, _TABLE_LOOK_SECONDS, look)[0]

    def warehouse_at_rest(self, warehouse: Warehouse, after: int) -> VersionComparison | None:
        """The same of the warehouse."""
        look = partial(warehouse.compare, sql_folder=self._sql_folder, after=after)
        return self._at_rest("warehouse", _REST_LIMIT_SECONDS, _TABLE_LOOK_SECONDS, look)[0]

    def _compare_board(self, database: Connection, sql: str) -> BoardComparison:
        window = timedelta(seconds=self._settings.redis.window_seconds)
        _, end = window_of(redis_seconds(self._redis), window)
        expected = expected_board(database, sql, end - window, end)
        found = compare(expected, self._redis, self._settings.redis.top_key, end)
        if window_of(redis_seconds(self._redis), window)[1] != end:
            raise TransientError("the window moved on meanwhile")
        return found

    def _at_rest(
        self, name: str, seconds: float, every: float, look: Callable[[Connection], Found | None]
    ) -> tuple[Found | None, str]:
        """What was found last, and why it was not at rest; what is away for a moment is looked at again."""
        found: Found | None = None
        why = ""
        for _ in self._patience.looks(seconds, every):
            before = why
            try:
                with closing(self._connect()) as database:
                    found = look(database)
                if found is not None and found.is_equal:
                    break
                why = str(found or "no rows")
            except (psycopg2.Error, RedisError, EngagementError) as error:
                why = first_line(error)
            if why != before:
                self._say(f"  the {name} is not at rest yet: {why}")
        return found, why
