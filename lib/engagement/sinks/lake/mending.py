"""What only an operator does to the lake: take out copies of rows, forget files that are gone."""

from collections.abc import Sequence

from deltalake import DeltaTable as OtherEngine
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from engagement.sinks.delta.faults import translated
from engagement.sinks.lake.tables import EVENT_DATE, SINK, events_table
from engagement.sinks.spark_faults import spark_translated
from engagement.small_frames import event_ids

_APPEND_ONLY = "delta.appendOnly"
_IDENTITY = ["event_id", "version"]


class LakeMender:
    """Rewrites days of `enriched_events`; the table allows nothing but appends at all other times."""

    def __init__(self, spark: SparkSession, path: str) -> None:
        self._spark = spark
        self.events = events_table(path)

    def lost_files(self) -> list[str]:
        """Files that the table names and that are not there any more. Raises: TransientSinkError."""
        with translated(SINK):
            found = OtherEngine(self.events.path).repair(dry_run=True)
        return [str(name) for name in found["files_removed"]]

    def forget_lost_files(self) -> None:
        """Make the table readable again, without what those files held. Raises: TransientSinkError."""
        self._allow_changes(allowed=True)
        try:
            with translated(SINK):
                OtherEngine(self.events.path).repair(dry_run=False)
        finally:
            self._allow_changes(allowed=False)

    def drop_copies(self, ids: Sequence[int]) -> None:
        """Leave one row of each version of some events. Raises: TransientSinkError, also when somebody wrote meanwhile.

        One commit rewrites the days that hold them, so a crash leaves all copies or none; then also changes stay
        allowed, which the next call puts right.
        """
        with spark_translated(SINK):
            wanted = event_ids(self._spark, ids)
            rows = self.events.read(self._spark)
            held = rows.where(F.col("event_id").between(min(ids), max(ids)))
            named = held.join(F.broadcast(wanted), "event_id", "left_semi").select(EVENT_DATE).distinct().collect()
            days = sorted(f"'{row[0].isoformat()}'" for row in named if row[0] is not None)
            chosen = " or ".join(
                [f"{EVENT_DATE} in ({', '.join(days)})"] * bool(days)
                + [f"{EVENT_DATE} is null"] * any(row[0] is None for row in named)
            )
            self._allow_changes(allowed=True)
            try:
                kept = rows.where(chosen).dropDuplicates(_IDENTITY)
                writer = kept.write.format("delta").mode("overwrite").option("replaceWhere", chosen)
                writer.save(self.events.path)
            finally:
                self._allow_changes(allowed=False)

    def _allow_changes(self, *, allowed: bool) -> None:
        with spark_translated(SINK):
            value = str(not allowed).lower()
            self._spark.sql(f"alter table delta.`{self.events.path}` set tblproperties ('{_APPEND_ONLY}' = '{value}')")
