"""PostgreSQL's table against the topic: what the connector loses is in no sink, where nobody would miss it."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field

from psycopg2.extensions import connection as Connection
from tests.e2e.support.topic import COLUMNS, TopicOracle, Values

_FIRST_COLUMN = COLUMNS.index("event_id") + 1
"""Where, in what a message says, the row begins."""
_SNAPSHOT = "select pg_snapshot_xmin(pg_current_snapshot())::text::bigint, (select count(*) from engagement_events)"
_CHANGED = (
    "select id, content_id::text, user_id::text, event_type, event_ts, duration_ms, device "
    "from engagement_events where xmin::text::bigint >= %s"
)
_IDS = "select id from engagement_events"

Newest = Mapping[int, tuple[tuple[int, int], Values | None]]


@dataclass
class SourceOracle(TopicOracle):
    """What the topic says of PostgreSQL's rows; of those that are refused, only that it has them."""

    connect: Callable[[], Connection]
    _since: int = field(default=0, init=False)
    """Rows of older transactions were equal before."""

    def differences(self) -> list[str]:
        """How the newest versions in the topic differ from the rows that were changed since all were equal."""
        with closing(self.connect()) as database:
            database.set_session(isolation_level="REPEATABLE READ", readonly=True)
            with database, database.cursor() as cursor:
                cursor.execute(_SNAPSHOT)
                ((following, total),) = cursor.fetchall()
                cursor.execute(_CHANGED, (self._since,))
                found = row_differences(self.topic.newest, cursor.fetchall())
                live = live_ids(self.topic.newest)
                if total != len(live):
                    cursor.execute(_IDS)
                    found += id_differences(live, {event_id for (event_id,) in cursor.fetchall()})
        if not found:
            self._since = following
        return found


def live_ids(newest: Newest) -> set[int]:
    """Rows that the topic has and does not say to be deleted."""
    return {event_id for event_id, (_, said) in newest.items() if said is None or said[0] != "d"}


def row_differences(newest: Newest, rows: Iterable[Values]) -> list[str]:
    """Rows (id, then columns) that the topic lacks, has as deleted, or has otherwise."""
    found = []
    for event_id, *row in rows:
        _, said = newest.get(event_id, ((0, 0), ()))
        if said == ():
            found.append(f"row {event_id} is lost: no message has it")
        elif said is not None and said[0] == "d":
            found.append(f"row {event_id} is there, and the topic says that it was deleted")
        elif said is not None and list(said[_FIRST_COLUMN:]) != row:
            found.append(f"row {event_id} is {row}, and stale in the topic: {said}")
    return found


def id_differences(live: set[int], there: set[int]) -> list[str]:
    """Rows whose deletion the topic lacks, or that are in the table alone."""
    return [
        *(f"row {event_id} was deleted, and no message says so" for event_id in sorted(live - there)),
        *(f"row {event_id} is in the table only" for event_id in sorted(there - live)),
    ]
