"""PostgreSQL, lake and warehouse as the comparison sees them: sums over ranges of ids, and single events by id.

What a digest is made of: transform/digest.py. Of single rows of PostgreSQL Spark computes it, behind the transform.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from engagement.reconcile.compare import Digest, Held, Slices, Sums
from engagement.reconcile.lake_files import DELETION, Reading, plan_tasks, sums_of_files
from engagement.schemas import Kind
from engagement.sinks.bigquery.rest import ListParameter, Parameter, Rest
from engagement.sinks.delta.files import Folder
from engagement.sinks.delta.log import DeltaLog
from engagement.sinks.delta.tables import LakeTable
from engagement.sinks.lake.tables import SINK as LAKE
from engagement.sinks.spark_faults import spark_translated
from engagement.sources.content import ContentCatalogue
from engagement.sources.history import EventsTable, Span
from engagement.transform.changes import Changes, transform_rows
from engagement.transform.digest import DIGESTED
from engagement.transform.instant import to_micros

_NUMBERS = ("high", "low", "event_us")
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
        return {row.event_id: Digest(row.high, row.low, row.refused) for row in rows.collect()}

    def ids_in(self, spans: Sequence[tuple[int, int]]) -> list[int]:
        """Ids of the rows in some ranges."""
        return self.table.ids_in(spans, self.span)


@dataclass(frozen=True)
class LakeSide:
    """What the lake has: the newest version of each event."""

    spark: SparkSession
    events: LakeTable
    span: Span | None
    name: str = LAKE

    def bounds(self) -> tuple[int, int] | None:
        """Smallest and largest event id."""
        return bounds_of(self.spark, self.events)

    def sums(self, slices: Slices) -> Mapping[int, Sums]:
        """Sums of the newest versions that live."""
        log = DeltaLog(self.events)
        tasks = plan_tasks(log.files("event_id"), slices) if log.is_plain else None
        if tasks is None:
            return self.gathered_sums(slices)
        with spark_translated(LAKE):
            return sums_of_files(self.spark, tasks, Reading(Folder(self.events.path), slices, _times_us(self.span)))

    def gathered_sums(self, slices: Slices) -> Mapping[int, Sums]:
        """The same, by bringing each event's versions together: for tables whose files hold ids from all over."""
        with spark_translated(LAKE):
            newest = self._newest(F.col("event_id").between(slices.first, slices.last))
            return collected(sums_by_slice(newest, slices, F.col("alive") & in_span(self.span)))

    def held(self, ids: Sequence[int]) -> dict[int, Held]:
        """The newest versions of some events, whenever they happened."""
        if not ids:
            return {}
        with spark_translated(LAKE):
            wanted = self.spark.createDataFrame([(number,) for number in ids], "event_id bigint")
            rows = self._newest(F.col("event_id").between(min(ids), max(ids)), F.broadcast(wanted)).collect()
        return {row.event_id: held_of(row.asDict(), alive=row.alive) for row in rows}

    def ids_in(self, spans: Sequence[tuple[int, int]]) -> list[int]:
        """Ids of the events in some ranges."""
        if not spans:
            return []
        with spark_translated(LAKE):
            rows = self.events.read(self.spark).where(any_of(spans)).select("event_id").distinct().collect()
        return [row.event_id for row in rows]

    def _newest(self, wanted: Column, ids: DataFrame | None = None) -> DataFrame:
        rows = self.events.read(self.spark).where(wanted)
        if ids is not None:
            rows = rows.join(ids, "event_id", "left_semi")
        digests = with_digest(rows.withColumn("event_us", F.unix_micros("event_ts")))
        alive = (F.col("op") != DELETION).alias("alive")
        # Placed by event once, so that both aggregates find their rows where they are; numbers only, since Spark hashes
        # no others in place.
        kept = digests.select("event_id", "version", *_NUMBERS, alive).repartition("event_id")
        copies = (F.count(F.lit(1)) - 1).alias("extra")
        columns = (*_NUMBERS, "alive")
        versions = kept.groupBy("event_id", "version").agg(*(F.max(name).alias(name) for name in columns), copies)
        newest = versions.groupBy("event_id").agg(
            F.max("version").alias("version"),
            *(F.max_by(name, "version").alias(name) for name in columns),
            F.sum("extra").alias("extra"),
        )
        return newest


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


def bounds_of(spark: SparkSession, table: LakeTable) -> tuple[int, int] | None:
    """Smallest and largest event id in a table; None of an empty one."""
    files = DeltaLog(table).files("event_id")
    if not (files["first"].null_count or files["last"].null_count):
        first, last = pc.min(files["first"]).as_py(), pc.max(files["last"]).as_py()
        return None if first is None else (first, last)
    with spark_translated(table.sink):
        row = table.read(spark).agg(F.min("event_id"), F.max("event_id")).first()
    return None if row is None or row[0] is None else (row[0], row[1])


def in_span(span: Span | None) -> Column:
    """Which rows happened in a range. In: event_us."""
    times = _times_us(span)
    if times is None:
        return F.lit(True)
    return (F.col("event_us") >= times[0]) & (F.col("event_us") < times[1])


def _times_us(span: Span | None) -> tuple[int, int] | None:
    return None if span is None else (to_micros(span.start), to_micros(span.end))


def sums_by_slice(rows: DataFrame, slices: Slices, counts: Column) -> DataFrame:
    """Sums of the rows that count, a row a slice. In: event_id, high, low, and extra if there can be any."""
    bucket = F.expr(f"(event_id - {slices.first}) div {slices.width}")
    return rows.groupBy(bucket.alias("bucket")).agg(
        F.count_if(counts).alias("events"),
        *(F.coalesce(F.sum(F.when(counts, F.col(name))), F.lit(0)).alias(name) for name in ("high", "low")),
        (F.sum("extra") if "extra" in rows.columns else F.lit(0)).cast("bigint").alias("extra"),
    )


def collected(sums: DataFrame) -> dict[int, Sums]:
    """Bucket -> its sums, of what `sums_by_slice` gives."""
    return {row.bucket: Sums(row.events, row.high, row.low, row.extra) for row in sums.collect()}


def held_of(row: Mapping[str, Any], *, alive: bool) -> Held:
    """An event as a row of a sink's newest versions tells it."""
    micros = row["event_us"]
    return Held(
        int(row["high"]),
        int(row["low"]),
        int(row["version"]),
        alive,
        int(row["extra"]),
        None if micros is None else int(micros),
    )


def any_of(spans: Sequence[tuple[int, int]]) -> str:
    """SQL for ids in one of some ranges, both ends inclusive."""
    return " or ".join(f"event_id between {first} and {last}" for first, last in spans)
