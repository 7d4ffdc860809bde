"""Frames of a few rows that the driver holds, as part of the plan itself.

Given to createDataFrame as a list they would go through Spark's Python workers, one for each slot: twelve more
processes for a handful of numbers.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

_EVENT_IDS = pa.schema([("event_id", pa.int64())])


def small_frame(spark: SparkSession, schema: pa.Schema, rows: Sequence[Sequence[Any]]) -> DataFrame:
    """Rows of these columns, in the schema's order."""
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return spark.createDataFrame(pa.Table.from_arrays(arrays, schema=schema))


def event_ids(spark: SparkSession, ids: Sequence[int]) -> DataFrame:
    """Out: event_id."""
    return small_frame(spark, _EVENT_IDS, [(number,) for number in ids])
