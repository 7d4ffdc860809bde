"""The content catalogue, read without Spark."""

import pyarrow as pa
from psycopg2.extras import RealDictCursor
from pyspark.sql.pandas.types import to_arrow_schema

from engagement import schemas
from engagement.sources.postgres import connected

CONTENT = to_arrow_schema(schemas.CONTENT, timezone="UTC")
"""The contract CONTENT, in Arrow."""


def read_contents(database_url: str, query: str) -> pa.Table:
    """Every content (contract CONTENT). Raises: TransientError."""
    with (
        connected(database_url, "dead-letters") as database,
        database.cursor(cursor_factory=RealDictCursor) as cursor,
    ):
        cursor.execute(query)
        return pa.Table.from_pylist([dict(row) for row in cursor], schema=CONTENT)
