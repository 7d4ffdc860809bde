"""History without what a destination holds already: for loaders that ask their table."""

from collections.abc import Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from engagement.schemas import Kind


def without(changes: DataFrame, held: DataFrame, key: Sequence[str], *, few: bool = True) -> DataFrame:
    """Changes but for row versions whose `key` is held. In and out: CHANGES. Rows: 1 -> 0 or 1.

    Shuffle: none where the keys are `few`: they are sent to the tasks, since the rows are more.
    """
    there = F.broadcast(held) if few else held
    same = reduce(Column.__and__, [F.col(f"changes.{name}") == F.col(f"held.{name}") for name in key])
    return changes.alias("changes").join(there.alias("held"), on=same & is_version(), how="left_anti")


def is_version() -> Column:
    """Which changes are row versions. In: CHANGES."""
    return (F.col("kind") == str(Kind.CHANGE)) & F.col("is_version")
