"""The content catalogue, read without Spark."""

import psycopg2
import pyarrow as pa
from psycopg2.extras import RealDictCursor
from pyspark.sql.pandas.types import to_arrow_schema

from engagement import schemas
from engagement.errors import TransientError, first_line

CONTENT = to_arrow_schema(schemas.CONTENT, timezone="UTC")
"""The contract CONTENT, in Arrow."""
_CONNECT_SECONDS = 10


def read_contents(database_url: str, query: str) -> pa.Table:
    """Every content (contract CONTENT). Raises: TransientError."""
    try:
        database = psycopg2.connect(database_url, connect_timeout=_CONNECT_SECONDS)
        try:
            with database.cursor(cursor_factory=RealDictCursor) as cursor:
                cursor.execute(query)
                return pa.Table.from_pylist([dict(row) for row in cursor], schema=CONTENT)
        finally:
            database.close()
    except psycopg2.Error as error:
        raise TransientError(f"the contents cannot be read from PostgreSQL: {first_line(error)}") from error
