"""The judgement of an unattended demo: once everything is at rest, the sinks must show what PostgreSQL has."""

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from psycopg2.extensions import connection as Connection
from redis import Redis

from engagement.demo.lake import compare_lake
from engagement.demo.patience import Patience
from engagement.demo.reference import BoardComparison, compare, expected_board, redis_seconds, window_of
from engagement.demo.versions import VersionComparison
from engagement.demo.warehouse import Warehouse
from engagement.settings import Settings

_REST_LIMIT_SECONDS = 90.0
_LOOK_SECONDS = 1.0
_TABLE_LOOK_SECONDS = 3.0
_SHOWN = 10


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
        """The live window on the board against the rows; None when told to stop before it was compared."""
        sql = (self._sql_folder / "board.sql").read_text()
        window = timedelta(seconds=self._settings.redis.window_seconds)
        found = None
        for _ in self._patience.looks(_REST_LIMIT_SECONDS, _LOOK_SECONDS):
            _, end = window_of(redis_seconds(self._redis), window)
            with closing(self._connect()) as database:
                expected = expected_board(database, sql, end - window, end)
            found = compare(expected, self._redis, self._settings.redis.top_key, end)
            moved = window_of(redis_seconds(self._redis), window)[1] != end
            if found.is_equal and not moved:
                break
        for difference in found.differences[:_SHOWN] if found and not self._patience.stop.is_set() else ():
            self._say(f"  differs: {difference}")
        return found

    def lake_at_rest(self, after: int) -> VersionComparison | None:
        """The lake's newest versions of events with an id above `after` against the rows; None without any."""
        lake = Path(self._settings.paths.lake_path)
        return self._at_rest("lake", lambda database: compare_lake(database, lake, self._sql_folder, after))

    def warehouse_at_rest(self, warehouse: Warehouse, after: int) -> VersionComparison | None:
        """The same of the warehouse."""
        return self._at_rest("warehouse", lambda database: warehouse.compare(database, self._sql_folder, after))

    def _at_rest(self, name: str, look: Callable[[Connection], VersionComparison | None]) -> VersionComparison | None:
        found, said = None, ""
        for _ in self._patience.looks(_REST_LIMIT_SECONDS, _TABLE_LOOK_SECONDS):
            with closing(self._connect()) as database:
                found = look(database)
            if found is not None and found.is_equal:
                break
            if said != (said := f"  the {name} is not at rest yet: {found or 'no rows'}"):
                self._say(said)
        return found
