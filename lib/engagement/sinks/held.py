"""History without what a destination holds already: for loaders that ask their table."""

from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from engagement.schemas import Kind
from engagement.sinks.base import Chunk
from engagement.sinks.delta.log import DeltaLog

BROADCAST_ROWS = 2_000_000
"""Keys that are sent to the tasks at most: those of a usual chunk (BACKFILL_BATCH_SIZE) and of the files at its ends.
The driver holds all of them at once, at some 100 bytes each with their hash table, and has 900 MB in all; one far id,
or a lake of years, would bring many more."""


def without(changes: DataFrame, held: DataFrame, chunk: Chunk, log: DeltaLog, most: int = BROADCAST_ROWS) -> DataFrame:
    """Changes of a chunk but for row versions whose key is held. In and out: CHANGES. Rows: 1 -> 0 or 1.

    `held` is of this log's table, where the chunk's ids would lie. Shuffle: none where the files there have few rows:
    then their keys are sent to the tasks.
    """
    rows = log.most_rows("event_id", chunk.ids)
    there = F.broadcast(held) if rows is not None and rows <= most else held
    same = reduce(Column.__and__, [F.col(f"changes.{name}") == F.col(f"held.{name}") for name in chunk.key])
    return changes.alias("changes").join(there.alias("held"), on=same & is_version(), how="left_anti")


def is_version() -> Column:
    """Which changes are row versions. In: CHANGES."""
    return (F.col("kind") == str(Kind.CHANGE)) & F.col("is_version")
