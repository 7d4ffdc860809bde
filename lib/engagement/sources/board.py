"""What the live ranking must show, worked out by PostgreSQL from the rows themselves."""

from datetime import datetime

from psycopg2.extensions import connection as Connection
from psycopg2.extras import RealDictCursor


def expected_board(database: Connection, sql: str, start: datetime, end: datetime) -> dict[str, dict[str, int]]:
    """content_id -> units, events, play, pause, finish, click, duration_ms, by sql/reference/board.sql."""
    with database, database.cursor(cursor_factory=RealDictCursor) as cursor:
        cursor.execute(sql, {"window_start": start, "window_end": end})
        return {row.pop("content_id"): {name: int(value) for name, value in row.items()} for row in cursor.fetchall()}
