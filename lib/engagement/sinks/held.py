"""History without what a destination holds already: for loaders that ask their table."""

from collections.abc import Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from engagement.schemas import Kind

BROADCAST_ROWS = 2_000_000
"""Keys that are sent to the tasks at most: those of a usual chunk (BACKFILL_BATCH_SIZE) and of the files at its ends.
The driver holds all of them at once, at some 100 bytes each with their hash table, and has 900 MB in all; one far id,
or a lake of years, would bring many more."""


def without(
    changes: DataFrame, held: DataFrame, key: Sequence[str], rows: int | None, most: int = BROADCAST_ROWS
) -> DataFrame:
    """Changes but for row versions whose `key` is held. In and out: CHANGES. Rows: 1 -> 0 or 1.

    `rows`: how many `held` has at most, by the statistics of its files (DeltaLog.most_rows); None: nobody knows.
    Shuffle: none where they are few: then their keys are sent to the tasks.
    """
    there = F.broadcast(held) if rows is not None and rows <= most else held
    same = reduce(Column.__and__, [F.col(f"changes.{name}") == F.col(f"held.{name}") for name in key])
    return changes.alias("changes").join(there.alias("held"), on=same & is_version(), how="left_anti")


def is_version() -> Column:
    """Which changes are row versions. In: CHANGES."""
    return (F.col("kind") == str(Kind.CHANGE)) & F.col("is_version")
