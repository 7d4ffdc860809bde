"""The content catalogue: read over JDBC, kept on the driver as one small frame that every micro-batch broadcasts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import pyarrow as pa
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from engagement.errors import TransientError, first_line

_CAUSE_CHARACTERS = 200


@dataclass(frozen=True)
class JdbcAddress:
    """A PostgreSQL database as Spark's JDBC reader wants it; opens nothing, and keeps the password out of repr."""

    url: str
    properties: Mapping[str, str]

    def __repr__(self) -> str:
        return f"JdbcAddress({self.url})"

    @classmethod
    def from_database_url(cls, database_url: str) -> "JdbcAddress":
        """Translate `postgresql://user:password@host:port/name?sslmode=…`.

        >>> JdbcAddress.from_database_url("postgresql://u:p@db:5433/events").url
        'jdbc:postgresql://db:5433/events'
        """
        parts = urlsplit(database_url)
        query = urlencode(parse_qsl(parts.query))
        url = f"jdbc:postgresql://{parts.hostname}:{parts.port or 5432}{parts.path}" + (f"?{query}" if query else "")
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
    frame: DataFrame
    """The same rows, cached: left in the plan, they would be serialised into every micro-batch's broadcast."""
    lengths: Mapping[str, int | None]
    """content_id -> length_seconds: what the score of an event depends on."""
    loaded_at: float
    """Monotonic seconds, for the age shown in metrics."""

    def release(self) -> None:
        """Give the cache back; a micro-batch that still uses the frame reads the rows from its plan."""
        self.frame.unpersist()

    def changed_lengths(self, newer: "ContentSnapshot") -> frozenset[str]:
        """Contents that an event would now be scored differently for: another length, new, or gone."""
        missing = object()
        return frozenset(
            content_id
            for content_id in self.lengths.keys() | newer.lengths.keys()
            if self.lengths.get(content_id, missing) != newer.lengths.get(content_id, missing)
        )


class ContentCatalogue:
    """Reads the catalogue; one Spark job of one task a time, nothing kept between calls."""

    def __init__(self, spark: SparkSession, address: JdbcAddress, query: str, clock: Callable[[], float]) -> None:
        self._spark = spark
        self._address = address
        self._query = query
        self._clock = clock

    def load(self) -> ContentSnapshot:
        """Read all contents now. Raises: TransientError when PostgreSQL does not answer."""
        reader = self._spark.read.format("jdbc").options(**self._address.properties)
        try:
            table = reader.option("url", self._address.url).option("query", self._query).load().toArrow()
        except (Py4JError, PySparkException) as error:
            cause = first_line(error)[:_CAUSE_CHARACTERS]
            raise TransientError(f"the content catalogue cannot be read from {self._address.url}: {cause}") from error
        return self.snapshot(table)

    def snapshot(self, table: pa.Table) -> ContentSnapshot:
        """Wrap rows that are at hand already."""
        lengths = dict(zip(table["content_id"].to_pylist(), table["length_seconds"].to_pylist(), strict=True))
        loaded_at = self._clock()
        # Spark's cache takes equal plans for one and the same, and giving one snapshot back would uncache its equals.
        own_plan = F.lit(loaded_at) == F.lit(loaded_at)
        frame = self._spark.createDataFrame(table).where(own_plan).cache()
        return ContentSnapshot(table, frame, lengths, loaded_at)

    def keeping_lengths(self, old: ContentSnapshot, new: ContentSnapshot, kept: frozenset[str]) -> ContentSnapshot:
        """`new`, but with the old length of the contents in `kept`; a kept content that is gone stays as it was."""
        rows = {row["content_id"]: row for row in new.table.to_pylist()}
        before = {row["content_id"]: row for row in old.table.to_pylist() if row["content_id"] in kept}
        for content_id, row in before.items():
            rows[content_id] = {**rows.get(content_id, row), "length_seconds": row["length_seconds"]}
        return self.snapshot(pa.Table.from_pylist(list(rows.values()), schema=new.table.schema))
