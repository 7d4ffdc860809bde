"""The lake's table of events: its columns, and how rows come to have them."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from engagement.schemas import ENRICHED_EVENT
from engagement.sinks.delta.tables import FENCED, LakeTable

SINK = "lake"
EVENT_DATE = "event_date"

EVENTS = T.StructType([*ENRICHED_EVENT, T.StructField(EVENT_DATE, T.DateType())])
"""`enriched_events`: the public schema, and its partition: the UTC day of event_ts, NULL for a `d` without one."""


def events_table(lake: str) -> LakeTable:
    """The table of row versions."""
    return LakeTable(SINK, f"{lake}/enriched_events", EVENTS, EVENT_DATE, (*FENCED, ("delta.appendOnly", "true")))


def stored_events(events: DataFrame) -> DataFrame:
    """In: ENRICHED_EVENT. Out: EVENTS. Rows: 1 -> 1. Shuffle: none."""
    return events.withColumn(EVENT_DATE, F.to_date("event_ts")).select(*EVENTS.names)
