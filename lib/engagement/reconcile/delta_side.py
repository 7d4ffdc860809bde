"""A Delta table of row versions as the comparison sees it: sums over ranges of ids, and single events by id."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from engagement.reconcile.compare import Held, Slices, Sums
from engagement.session import compile_for
from engagement.sinks.delta.log import DeltaLog
from engagement.sinks.delta.tables import LakeTable
from engagement.sinks.spark_faults import spark_translated
from engagement.small_frames import event_ids
from engagement.sources.history import Span
from engagement.transform.instant import to_micros

_TOLD = ("high", "low", "event_us", "alive")


@dataclass(frozen=True)
class DeltaSide(ABC):
    """What a sink's table has: the newest version of each event."""

    spark: SparkSession
    table: LakeTable
    span: Span | None
    has_copies: ClassVar[bool] = True
    """Whether a version that stands there twice is one too many."""

    @property
    def name(self) -> str:
        """The sink's name."""
        return self.table.sink

    @abstractmethod
    def with_told(self, rows: DataFrame) -> DataFrame:
        """Add to rows of the table, of an event_id, version and op: high, low, event_us and alive."""

    def bounds(self) -> tuple[int, int] | None:
        """Smallest and largest event id; None of an empty table."""
        files = DeltaLog(self.table).files("event_id")
        if not (files["first"].null_count or files["last"].null_count):
            first, last = pc.min(files["first"]).as_py(), pc.max(files["last"]).as_py()
            return None if first is None else (first, last)
        with spark_translated(self.name):
            row = self.table.read(self.spark).agg(F.min("event_id"), F.max("event_id")).first()
        return None if row is None or row[0] is None else (row[0], row[1])

    def sums(self, slices: Slices) -> Mapping[int, Sums]:
        """Sums of the newest versions that live."""
        return self.gathered_sums(slices)

    def gathered_sums(self, slices: Slices) -> Mapping[int, Sums]:
        """The same, by bringing each event's versions together. Shuffle: by event."""
        compile_for(self.spark, slices.last - slices.first)
        with spark_translated(self.name):
            newest = self._newest(F.col("event_id").between(slices.first, slices.last))
            return _collected(_sums(newest, slices, F.col("alive") & _in_span(self.span)))

    def held(self, ids: Sequence[int]) -> dict[int, Held]:
        """The newest versions of some events, whenever they happened."""
        if not ids:
            return {}
        with spark_translated(self.name):
            wanted = event_ids(self.spark, ids)
            rows = self._newest(F.col("event_id").between(min(ids), max(ids)), F.broadcast(wanted)).collect()
        return {row.event_id: held_of(row.asDict(), alive=row.alive) for row in rows}

    def ids_in(self, spans: Sequence[tuple[int, int]]) -> list[int]:
        """Ids of the events in some ranges."""
        if not spans:
            return []
        with spark_translated(self.name):
            rows = self.table.read(self.spark).where(any_of(spans)).select("event_id").distinct().collect()
        return [row.event_id for row in rows]

    def _newest(self, wanted: Column, ids: DataFrame | None = None) -> DataFrame:
        rows = self.table.read(self.spark).where(wanted)
        if ids is not None:
            rows = rows.join(ids, "event_id", "left_semi")
        # Placed by event once, so that both aggregates find their rows where they are; numbers only, since Spark hashes
        # no others in place.
        kept = self.with_told(rows).select("event_id", "version", *_TOLD).repartition("event_id")
        copies = F.count(F.lit(1)) - 1 if self.has_copies else F.lit(0).cast("bigint")
        versions = kept.groupBy("event_id", "version").agg(
            *(F.max(name).alias(name) for name in _TOLD), copies.alias("extra")
        )
        return versions.groupBy("event_id").agg(
            F.max("version").alias("version"),
            *(F.max_by(name, "version").alias(name) for name in _TOLD),
            F.sum("extra").alias("extra"),
        )


def _in_span(span: Span | None) -> Column:
    """Which rows happened in a range. In: event_us."""
    times = times_us(span)
    if times is None:
        return F.lit(True)
    return (F.col("event_us") >= times[0]) & (F.col("event_us") < times[1])


def times_us(span: Span | None) -> tuple[int, int] | None:
    """A range in microseconds since 1970, the end excluded; None: all of time."""
    return None if span is None else (to_micros(span.start), to_micros(span.end))


def _sums(rows: DataFrame, slices: Slices, counts: Column) -> DataFrame:
    """Sums of the rows that count, a row a slice. In: event_id, high, low, extra."""
    bucket = F.expr(f"(event_id - {slices.first}) div {slices.width}")
    return rows.groupBy(bucket.alias("bucket")).agg(
        F.count_if(counts).alias("events"),
        *(F.coalesce(F.sum(F.when(counts, F.col(name))), F.lit(0)).alias(name) for name in ("high", "low")),
        F.sum("extra").alias("extra"),
    )


def _collected(sums: DataFrame) -> dict[int, Sums]:
    """Bucket -> its sums, of what `_sums` gives."""
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
