"""The content catalogue: read over JDBC, kept on the driver, and sent to the workers as a broadcast variable."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import pyarrow as pa
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from engagement.errors import TransientError, first_line
from engagement.transform.content import Lengths, SharedContents

_CAUSE_CHARACTERS = 200
_LIMITS = {"connectTimeout": "10", "loginTimeout": "10", "socketTimeout": "30", "tcpKeepAlive": "true"}
"""Seconds. The driver has none of its own: a database that is frozen, or gone without a word, would hold up every sink
that reads the contents, and the end of the job, for as long as it lasts."""


@dataclass(frozen=True)
class JdbcAddress:
    """A PostgreSQL database as Spark's JDBC reader wants it; opens nothing, and keeps the password out of repr."""

    url: str
    properties: Mapping[str, str]

    def __repr__(self) -> str:
        return f"JdbcAddress({self.url})"

    @classmethod
    def from_database_url(cls, database_url: str) -> "JdbcAddress":
        """Translate `postgresql://user:password@host:port/name?sslmode=…`; a time limit that it names itself wins.

        >>> JdbcAddress.from_database_url("postgresql://u:p@db:5433/events?socketTimeout=5").url
        'jdbc:postgresql://db:5433/events?connectTimeout=10&loginTimeout=10&socketTimeout=5&tcpKeepAlive=true'
        """
        parts = urlsplit(database_url)
        query = urlencode({**_LIMITS, **dict(parse_qsl(parts.query))})
        url = f"jdbc:postgresql://{parts.hostname}:{parts.port or 5432}{parts.path}?{query}"
        properties = {"driver": "org.postgresql.Driver"}
        if parts.username is not None:
            properties["user"] = unquote(parts.username)
        if parts.password is not None:
            properties["password"] = unquote(parts.password)
        return cls(url, properties)


@dataclass(frozen=True, eq=False)
class ContentSnapshot:
    """The catalogue as it stood at one moment: contract CONTENT of schemas.py."""

    table: pa.Table
    contents: SharedContents
    """The same rows, as the transform joins them."""

    @cached_property
    def lengths(self) -> Lengths:
        """Every content's length."""
        return dict(zip(self.table["content_id"].to_pylist(), self.table["length_seconds"].to_pylist(), strict=True))

    def changed_since(self, lengths: Lengths) -> frozenset[str]:
        """Contents that an event would now be scored differently for: another length, new, or gone."""
        missing = object()
        return frozenset(
            content_id
            for content_id in lengths.keys() | self.lengths.keys()
            if lengths.get(content_id, missing) != self.lengths.get(content_id, missing)
        )


@contextmanager
def reading(what: str, address: JdbcAddress) -> Iterator[None]:
    """Turn what Spark says of a PostgreSQL that it reads from into TransientError."""
    try:
        yield
    except (Py4JError, PySparkException) as error:
        cause = first_line(error)[:_CAUSE_CHARACTERS]
        raise TransientError(f"{what} cannot be read from {address.url}: {cause}") from error


class ContentCatalogue:
    """Reads the catalogue; one Spark job of one task a time, nothing kept between calls."""

    def __init__(self, spark: SparkSession, address: JdbcAddress, query: str) -> None:
        self._spark = spark
        self._address = address
        self._query = query

    def load(self, former: ContentSnapshot | None = None) -> ContentSnapshot:
        """Read all contents now; `former` again if they are the same. Raises: TransientError without PostgreSQL."""
        reader = self._spark.read.format("jdbc").options(**self._address.properties)
        with reading("the content catalogue", self._address):
            table = reader.option("url", self._address.url).option("query", self._query).load().toArrow()
        table = table.sort_by("content_id")  # PostgreSQL gives them in any order
        return former if former is not None and table.equals(former.table) else self.snapshot(table)

    def snapshot(self, table: pa.Table) -> ContentSnapshot:
        """Wrap rows that are at hand already."""
        return ContentSnapshot(table, SharedContents(self._spark.sparkContext, table))

    def keeping_lengths(self, lengths: Lengths, new: ContentSnapshot, kept: frozenset[str]) -> ContentSnapshot:
        """`new`, but the contents in `kept` with these lengths; one that is gone from it stays, by its length alone."""
        rows = {row["content_id"]: row for row in new.table.to_pylist()}
        nothing = dict.fromkeys(new.table.column_names)
        for content_id in kept & lengths.keys():
            former = rows.get(content_id, nothing)
            rows[content_id] = {**former, "content_id": content_id, "length_seconds": lengths[content_id]}
        return self.snapshot(pa.Table.from_pylist(list(rows.values()), schema=new.table.schema))
