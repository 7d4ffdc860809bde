"""History into the lake: one Delta commit a chunk, of the rows that the table lacks.

Guarantee: a row is added only if the table holds no version of its event (or not this version: `Chunk.key`), whatever
stream and other backfills do at the same time.

* Beside the stream: what it commits between the look and the commit has a version above 0, so it stays the newest.
* Beside another backfill: each commit carries the next number of one Delta transaction id (`APP`), read before the
  look. Of two commits that went on from the same number Delta refuses the second, or leaves it out when it comes
  later, which `_is_mine` shows; it looks again then.
* A crash before the commit leaves files that no table names. After it, the repetition finds the rows and adds none.

Dead letters come after the rows, merged by their place, so that a crash in between adds none twice.
"""

import json
from collections.abc import Callable
from datetime import datetime
from uuid import uuid4

from deltalake import DeltaTable as OtherEngine
from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from engagement.errors import TransientSinkError
from engagement.schemas import Kind
from engagement.sinks.base import Chunk, Loaded
from engagement.sinks.delta.tables import dead_letters_table, stored_dead_letters
from engagement.sinks.lake.tables import EVENT_DATE, SINK, events_table, stored_events
from engagement.sinks.spark_faults import spark_translated
from engagement.transform.enrich import dead_letters, enriched_events

APP = "engagement-backfill"
_NEWEST_COMMITS = 20
"""Among which a commit of a moment ago is looked for: the stream makes two a minute."""
_OPEN_FILES = 4
"""Days that a task writes side by side; with more it sorts its rows by day."""
_SAME_LETTER = " and ".join(
    f"stored.{name} = new.{name}" for name in ("topic", "kafka_partition", "kafka_offset", "stage")
)
"""Not by day: a row of the table is refused at whatever time it is read."""

_ROW_GROUP_BYTES = 32 * 2**20
"""What a file under way holds in memory, of which a task has one a day."""


class LakeLoader:
    """Adds chunks to `enriched_events` and their dead letters to `dead_letters` (sinks.base.Loader)."""

    name = SINK

    def __init__(self, spark: SparkSession, path: str, clock: Callable[[], datetime]) -> None:
        self._spark = spark
        self._clock = clock
        self.events = events_table(path)
        self.dead_letters = dead_letters_table(SINK, path)

    def open(self) -> None:
        """Make the tables, or check those that are there. Raises: TransientSinkError, PermanentSinkError."""
        with spark_translated(SINK):
            self._spark.conf.set("spark.sql.maxConcurrentOutputFileWriters", _OPEN_FILES)
            self.events.prepare(self._spark)
            self.dead_letters.prepare(self._spark)

    def load(self, chunk: Chunk) -> Loaded:
        """Add what is missing. Raises: TransientSinkError."""
        with spark_translated(SINK):
            following = (OtherEngine(self.events.path).transaction_version(APP) or 0) + 1
            seen, kept = Observation(f"{chunk.name} read"), Observation(f"{chunk.name} written")
            outcomes = chunk.changes.observe(seen, _count(_is_version(), "versions"), _count(_is_refused(), "refused"))
            events = self._missing(stored_events(enriched_events(outcomes, F.lit(self._clock()))), chunk)
            self._append(events.observe(kept, _count(F.lit(True), "rows")), chunk.name, following)
            refused = int(seen.get["refused"])
            if refused:
                self._add_dead_letters(chunk)
            return Loaded(int(seen.get["versions"]), int(kept.get["rows"]), refused)

    def close(self) -> None:
        """Nothing is held open."""

    def _missing(self, events: DataFrame, chunk: Chunk) -> DataFrame:
        if "version" in chunk.key:  # a source that went back sends a version again under new offsets
            events = events.dropDuplicates(list(chunk.key))
        there = self.events.read(self._spark)
        if chunk.ids:  # each file tells its smallest and largest id: most are never opened
            there = there.where(F.col("event_id").between(*chunk.ids))
        elif chunk.times:
            first, end = (moment.date() for moment in chunk.times)
            there = there.where(F.col(EVENT_DATE).between(first, end) | F.col(EVENT_DATE).isNull())
        there = there.select(*chunk.key)
        if there.isEmpty():
            return events
        # The ids of a chunk are few enough to send; the rows stay where they are.
        return events.join(F.broadcast(there.distinct()), on=list(chunk.key), how="left_anti").select(*events.columns)

    def _append(self, events: DataFrame, name: str, following: int) -> None:
        mark = uuid4().hex
        writer = events.write.format("delta").mode("append").partitionBy(EVENT_DATE)
        writer = writer.option("txnAppId", APP).option("txnVersion", following)
        writer = writer.option("parquet.block.size", _ROW_GROUP_BYTES)
        writer.option("userMetadata", json.dumps({"backfill": name, "mark": mark})).save(self.events.path)
        if not self._is_mine(mark):
            raise TransientSinkError(SINK, "another backfill wrote to it meanwhile; looking again")

    def _is_mine(self, mark: str) -> bool:
        newest = self.events.open(self._spark).history(_NEWEST_COMMITS).select("userMetadata").collect()
        return any(mark in (metadata or "") for (metadata,) in newest)

    def _add_dead_letters(self, chunk: Chunk) -> None:
        letters = stored_dead_letters(dead_letters(chunk.changes), chunk.name, None, F.lit(1))
        table = self.dead_letters.open(self._spark).alias("stored")
        table.merge(letters.alias("new"), _SAME_LETTER).whenNotMatchedInsertAll().execute()


def _is_version() -> Column:
    return (F.col("kind") == str(Kind.CHANGE)) & F.col("is_version")


def _is_refused() -> Column:
    return F.col("kind") == str(Kind.DEAD_LETTER)


def _count(condition: Column, name: str) -> Column:
    return F.coalesce(F.count_if(condition), F.lit(0)).alias(name)
