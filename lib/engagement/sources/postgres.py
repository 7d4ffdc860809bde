"""PostgreSQL without Spark, for a few questions at a time."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg2
from psycopg2.extensions import connection as Connection

from engagement.errors import TransientError, first_line

_CONNECT_SECONDS = 5


@contextmanager
def connected(database_url: str, name: str) -> Iterator[Connection]:
    """A connection under a name that PostgreSQL shows, in UTC, each statement for itself.

    Raises: TransientError, also for what is asked within.
    """
    try:
        with closing(
            psycopg2.connect(
                database_url,
                connect_timeout=_CONNECT_SECONDS,
                application_name=f"engagement-{name}",
                options="-c timezone=UTC",
            )
        ) as database:
            database.autocommit = True
            yield database
    except psycopg2.Error as error:
        raise TransientError(f"PostgreSQL (DATABASE_URL) did not answer as it should: {first_line(error)}") from error
