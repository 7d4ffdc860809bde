"""PostgreSQL, lake and warehouse as the comparison sees them: sums over ranges of ids, and single events by id.

What a digest is made of: transform/digest.py. Of single rows of PostgreSQL Spark computes it, behind the transform.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from engagement.reconcile.compare import Digest, Held, Slices, Sums
from engagement.reconcile.delta_side import DeltaSide, any_of, held_of, times_us
from engagement.reconcile.lake_files import Reading, plan_tasks, sums_of_files
from engagement.schemas import DELETION, Kind
from engagement.sinks.bigquery.rest import ListParameter, Parameter, Rest
from engagement.sinks.delta.files import Folder
from engagement.sinks.delta.log import DeltaLog
from engagement.sinks.spark_faults import spark_translated
from engagement.sources.content import ContentCatalogue
from engagement.sources.history import EventsTable, Span
from engagement.transform.changes import Changes, transform_rows
from engagement.transform.digest import DIGESTED

_IDS = 10_000
"""Events that one statement asks for."""
_HALF = 8
"""Hexadecimal digits in half of a digest."""


def with_digest(rows: DataFrame) -> DataFrame:
    """Add `high` and `low`, the halves of each row's digest. In: the columns of DIGESTED among others."""
    texts = [F.coalesce(F.col(name).cast("string"), F.lit("~")) for name in DIGESTED]
    hashed = rows.withColumn("digest", F.md5(F.concat_ws("|", *texts)))
    halves = {"high": _number(1), "low": _number(1 + _HALF)}
    return hashed.withColumns(halves).drop("digest")


def _number(at: int) -> Column:
    return F.conv(F.substring("digest", at, _HALF), 16, 10).cast("bigint")


@dataclass(frozen=True)
class TableSide:
    """What PostgreSQL has; the transform says which rows are none that a sink could hold."""

    spark: SparkSession
    table: EventsTable
    catalogue: ContentCatalogue
    span: Span | None
    now: Callable[[], datetime]

    def sums(self, slices: Slices) -> Mapping[int, Sums]:
        """Sums of all rows, refused ones too: those make ranges differ, and are recognised by id."""
        rows = self.table.digest_sums(slices.first, slices.last, slices.width, self.span)
        return {row.bucket: Sums(row.events, row.high, row.low) for row in rows}

    def digests(self, ids: Sequence[int]) -> dict[int, Digest]:
        """The rows of some ids that are there, whenever they happened."""
        if not ids:
            return {}
        contents = self.catalogue.load()
        read = self.table.read_ids(self.spark, ids, self.now())
        changes = Changes(read, contents.contents, transform_rows).frame()
        # Of a refused row only the id is left: its own, or the place that stands for it.
        named = changes.withColumn("event_id", F.coalesce("event_id", "kafka_offset"))
        rows = with_digest(named.withColumn("event_us", F.unix_micros("event_ts"))).select(
            "event_id", "high", "low", (F.col("kind") != str(Kind.CHANGE)).alias("refused")
        )
        with self.table.reading():
            return {row.event_id: Digest(row.high, row.low, row.refused) for row in rows.collect()}

    def ids_in(self, spans: Sequence[tuple[int, int]]) -> list[int]:
        """Ids of the rows in some ranges."""
        return self.table.ids_in(spans, self.span)


@dataclass(frozen=True)
class LakeSide(DeltaSide):
    """What the lake has."""

    def sums(self, slices: Slices) -> Mapping[int, Sums]:
        """Sums of the newest versions that live."""
        log = DeltaLog(self.table)
        tasks = plan_tasks(log.files("event_id"), slices) if log.is_plain else None
        if tasks is None:  # files that hold ids from all over
            return self.gathered_sums(slices)
        with spark_translated(self.name):
            return sums_of_files(self.spark, tasks, Reading(Folder(self.table.path), slices, times_us(self.span)))

    def with_told(self, rows: DataFrame) -> DataFrame:
        """Add what the digests are of, and the digests. Shuffle: none."""
        told = rows.withColumns({"event_us": F.unix_micros("event_ts"), "alive": F.col("op") != DELETION})
        return with_digest(told)


@dataclass(frozen=True)
class WarehouseSide:
    """What the warehouse has: the newest version of each event."""

    rest: Rest
    span: Span | None
    name: str = "warehouse"

    def bounds(self) -> tuple[int, int] | None:
        """Smallest and largest event id."""
        ((first, last),) = [tuple(row.values()) for row in self.rest.run("drift_bounds").rows]
        return None if first is None else (int(first), int(last))

    def sums(self, slices: Slices) -> Mapping[int, Sums]:
        """Sums of the newest versions that live."""
        newest = self.rest.text("drift_newest", wanted="event_id between @first_id and @last_id")
        numbers = {"first_id": slices.first, "last_id": slices.last, "width": slices.width}
        times = {
            "event_from": self.span.start if self.span else None,
            "event_to": self.span.end if self.span else None,
        }
        parameters = [Parameter(name, "INT64", value) for name, value in numbers.items()]
        parameters += [Parameter(name, "TIMESTAMP", value) for name, value in times.items()]
        rows = self.rest.run("drift_sums", parameters, newest=newest).rows
        return {int(row["bucket"]): Sums(*(int(row[name]) for name in _SUMS)) for row in rows}

    def held(self, ids: Sequence[int]) -> dict[int, Held]:
        """The newest versions of some events, whenever they happened."""
        newest = self.rest.text("drift_newest", wanted="event_id in unnest(@ids)")
        found: dict[int, Held] = {}
        for at in range(0, len(ids), _IDS):
            asked = ListParameter("ids", "INT64", list(ids[at : at + _IDS]))
            rows = self.rest.run_text(newest, [asked]).rows
            found |= {int(row["event_id"]): held_of(row, alive=row["op"] != DELETION) for row in rows}
        return found

    def ids_in(self, spans: Sequence[tuple[int, int]]) -> list[int]:
        """Ids of the events in some ranges."""
        rows = self.rest.run("drift_ids", wanted=any_of(spans)).rows if spans else []
        return [int(row["event_id"]) for row in rows]


_SUMS = ("events", "high", "low", "extra")
