"""History into the lake: one Delta commit a chunk, of the rows that the table lacks.

Guarantee: a row is added only if the table holds no version of its event (or not this version: `Chunk.key`), whatever
stream and other backfills do at the same time.

* Beside the stream: what it commits between the look and the commit has a version above 0, so it stays the newest.
* Beside another backfill: a commit carries the next number of one Delta transaction id (`APP`), as the log had it
  before the look. Of two commits that went on from the same number the second fails, and its backfill looks again.
* A crash before the commit leaves files that no table names. After it, the repetition finds the rows and adds none.

The rows are written by the tasks that read them, as the stream's are. Only where the table may hold some of a chunk's
events already do they come back to Spark, to be compared with it.

Dead letters come after the rows, and only those whose place is free, so that a crash in between adds none twice.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from pyspark.sql import DataFrame, Observation, Row, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from engagement.schemas import Kind
from engagement.sinks.base import Additions, Chunk, Loaded
from engagement.sinks.delta.files import Folder
from engagement.sinks.delta.letters import add_letter_files
from engagement.sinks.delta.log import DeltaLog
from engagement.sinks.delta.tables import dead_letters_table
from engagement.sinks.held import BROADCAST_ROWS, is_version, without
from engagement.sinks.lake.chunk_files import WRITTEN, ChunkPlan, write_chunk
from engagement.sinks.lake.tables import EVENT_DATE, SINK, events_table, in_days
from engagement.sinks.spark_faults import spark_translated
from engagement.transform.instant import to_micros

APP = "engagement-backfill"
_PLACE = ("topic", "kafka_partition", "kafka_offset")


class LakeLoader:
    """Adds chunks to `enriched_events` and their dead letters to `dead_letters` (sinks.base.Loader)."""

    name = SINK

    def __init__(self, spark: SparkSession, path: str, clock: Callable[[], datetime]) -> None:
        self._spark = spark
        self._clock = clock
        self.events = events_table(path)
        self.dead_letters = dead_letters_table(SINK, path)
        self._added = Additions()
        self.broadcast_rows = BROADCAST_ROWS

    def open(self) -> None:
        """Make the tables, or check those that are there. Raises: TransientSinkError, PermanentSinkError."""
        with spark_translated(SINK):
            self.events.prepare()
            self.dead_letters.prepare()

    def destination(self) -> str:
        """Its two tables, as they are since the newest RESTORE. Raises: TransientSinkError."""
        return " ".join(DeltaLog(table).identity for table in (self.events, self.dead_letters))

    def load(self, chunk: Chunk) -> Loaded:
        """Add what is missing. Raises: TransientSinkError."""
        with spark_translated(SINK):
            log = DeltaLog(self.events)
            read, tasks = self._write(chunk, self._held(chunk, log), log)
            self._append(log, tasks, chunk)
            letters = [file.asDict() for task in tasks for file in task.letters]
            if letters:
                self._add_dead_letters(letters, chunk)
            return Loaded(read, self._added.total(chunk), sum(task.refused for task in tasks))

    def close(self) -> None:
        """Nothing is held open."""

    def _held(self, chunk: Chunk, log: DeltaLog) -> DataFrame | None:
        """What the table holds where the chunk's rows would lie, by the chunk's key; None when that is nothing."""
        if chunk.ids and not log.may_hold("event_id", *chunk.ids):
            return None
        held = self.events.read(self._spark)
        if chunk.ids:  # each file tells its smallest and largest id: most are never opened
            held = held.where(F.col("event_id").between(*chunk.ids))
        elif chunk.times:
            held = held.where(in_days(*chunk.times) | F.col(EVENT_DATE).isNull())
        held = held.select(*chunk.key)
        return None if held.isEmpty() else held.distinct()

    def _write(self, chunk: Chunk, held: DataFrame | None, log: DeltaLog) -> tuple[int, list[Row]]:
        """Write what is to be added; how many row versions the chunk has, and rows of WRITTEN."""
        at = to_micros(self._clock())
        plan = ChunkPlan(Folder(self.events.path), Folder(self.dead_letters.path), at, chunk.name)
        may_repeat = "version" in chunk.key  # a source that went back sends a version again under new offsets
        if held is None and not may_repeat:
            tasks = chunk.changes.each_partition(write_chunk(plan), WRITTEN).collect()
            return sum(task.rows for task in tasks), tasks
        seen = Observation(f"{chunk.name} read")
        versions = F.coalesce(F.count_if(is_version()), F.lit(0)).alias("versions")
        changes = chunk.changes.frame().observe(seen, versions)
        if may_repeat:  # of these only dead letters have a place
            # Without the other rows of an update or a move, which have the key of its version too.
            kept = changes.where(is_version() | (F.col("kind") == str(Kind.DEAD_LETTER)))
            changes = kept.dropDuplicates([*chunk.key, *_PLACE])
        if held is not None:
            changes = without(changes, held, chunk.key, log.most_rows("event_id", chunk.ids), self.broadcast_rows)
        tasks = changes.mapInArrow(write_chunk(plan), from_arrow_schema(WRITTEN)).collect()
        return int(seen.get["versions"]), tasks

    def _append(self, log: DeltaLog, tasks: Sequence[Row], chunk: Chunk) -> None:
        files = [file.asDict() for task in tasks for file in task.files]
        if files:
            number = log.append_next(files, APP, json.dumps({"backfill": chunk.name}))
            self._added.add(chunk, str(number), sum(task.rows for task in tasks))

    def _add_dead_letters(self, files: Sequence[Mapping[str, Any]], chunk: Chunk) -> None:
        # By version come messages of the topic: their letters have Kafka's time, and another time is another message.
        add_letter_files(self._spark, self.dead_letters, files, of_rows="version" not in chunk.key)
