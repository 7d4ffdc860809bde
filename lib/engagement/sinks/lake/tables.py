"""The lake's table of events: its columns, and how rows come to have them."""

from datetime import datetime

import pyarrow as pa
from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from engagement.schemas import ENRICHED_EVENT
from engagement.sinks.delta.files import EVENT_BOUNDS, bounds_property
from engagement.sinks.delta.tables import FENCED, LakeTable
from engagement.transform.columns import repeated

SINK = "lake"
EVENT_DATE = "event_date"

EVENTS = T.StructType([*ENRICHED_EVENT, T.StructField(EVENT_DATE, T.DateType())])
"""`enriched_events`: the public schema, and its partition: the UTC day of event_ts, NULL for a `d` without one."""
EVENT_FILE: pa.Schema = to_arrow_schema(ENRICHED_EVENT, timezone="UTC")
"""EVENTS as its files hold them: the day is in their path."""


def events_table(lake: str) -> LakeTable:
    """The table of row versions."""
    properties = (*FENCED, bounds_property(EVENT_BOUNDS), ("delta.appendOnly", "true"))
    return LakeTable(SINK, f"{lake}/enriched_events", EVENTS, EVENT_DATE, properties)


def in_days(first: datetime, last: datetime) -> Column:
    """Whether a row's day is that of `first`, of `last` or between; NULL for a row without one.

    As text: pyspark itself spells a year before 1000 with fewer than four digits, which is no date.
    """
    days = (F.lit(moment.date().isoformat()).cast("date") for moment in (first, last))
    return F.col(EVENT_DATE).between(*days)


def to_file_rows(changes: pa.RecordBatch, processed_us: int) -> pa.RecordBatch:
    """Row versions as the table's files hold them. In: CHANGES. Out: EVENT_FILE. Rows: 1 -> 1."""
    columns = [
        repeated(processed_us, field.type, len(changes))
        if field.name == "processed_ts"
        else changes.column(field.name).cast(field.type)
        for field in EVENT_FILE
    ]
    return pa.RecordBatch.from_arrays(columns, schema=EVENT_FILE)
