"""The external system as the comparison sees it: by what the table of deliveries tells that it was sent.

An event that the receiver refused has its outcome there too, so it is not missing: it is a dead letter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from engagement.reconcile.compare import Held, Slices, Sums
from engagement.reconcile.lake_files import DELETION
from engagement.reconcile.sides import any_of, bounds_of, collected, held_of, in_span, sums_by_slice
from engagement.sinks.delta.tables import LakeTable
from engagement.sinks.external.options import SINK
from engagement.sinks.spark_faults import spark_translated
from engagement.sources.history import Span

_END = datetime(9999, 12, 31, tzinfo=UTC)


def remembered_span(span: Span | None, now: datetime, retention_days: int) -> Span | None:
    """The part of a range of event times whose deliveries cannot have been forgotten; None: all of time.

    >>> remembered_span(None, datetime(2025, 8, 31, tzinfo=UTC), 30).start.isoformat()
    '2025-08-02T00:00:00+00:00'
    """
    if not retention_days:
        return span
    # An event is delivered after it happened; a day is left for clocks and for the day under way.
    floor = now - timedelta(days=retention_days - 1)
    if span is None:
        return Span(floor, _END)
    return Span(max(span.start, floor), max(span.end, floor))


@dataclass(frozen=True)
class DeliveriesSide:
    """What the receiver has been sent: the newest version of each event."""

    spark: SparkSession
    deliveries: LakeTable
    span: Span | None
    name: str = SINK

    def bounds(self) -> tuple[int, int] | None:
        """Smallest and largest event id."""
        return bounds_of(self.spark, self.deliveries)

    def sums(self, slices: Slices) -> Mapping[int, Sums]:
        """Sums of the newest versions that live. Shuffle: by event."""
        with spark_translated(SINK):
            newest = self._newest(F.col("event_id").between(slices.first, slices.last))
            return collected(sums_by_slice(newest, slices, F.col("alive") & in_span(self.span)))

    def held(self, ids: Sequence[int]) -> dict[int, Held]:
        """The newest versions of some events, whenever they happened."""
        if not ids:
            return {}
        with spark_translated(SINK):
            wanted = self.spark.createDataFrame([(number,) for number in ids], "event_id bigint")
            rows = self._newest(F.col("event_id").between(min(ids), max(ids)), F.broadcast(wanted)).collect()
        return {row.event_id: held_of(row.asDict(), alive=row.alive) for row in rows}

    def ids_in(self, spans: Sequence[tuple[int, int]]) -> list[int]:
        """Ids of the events in some ranges."""
        if not spans:
            return []
        with spark_translated(SINK):
            rows = self.deliveries.read(self.spark).where(any_of(spans)).select("event_id").distinct().collect()
        return [row.event_id for row in rows]

    def _newest(self, wanted: Column, ids: DataFrame | None = None) -> DataFrame:
        """Shuffle: by event. A version that was sent twice is none too many: that is what its key is for."""
        rows = self.deliveries.read(self.spark).where(wanted)
        if ids is not None:
            rows = rows.join(ids, "event_id", "left_semi")
        told = {
            "high": F.col("digest_high"),
            "low": F.col("digest_low"),
            "event_us": F.unix_micros("event_ts"),
            "alive": F.col("op") != DELETION,
        }
        kept = rows.select("event_id", "version", *(column.alias(name) for name, column in told.items()))
        return kept.groupBy("event_id").agg(
            F.max("version").alias("version"),
            *(F.max_by(name, "version").alias(name) for name in told),
            F.lit(0).cast("bigint").alias("extra"),
        )
