"""Changes as rows of the warehouse's table, on Arrow: names, types and values exactly as BigQuery takes them."""

import pyarrow as pa
import pyarrow.compute as pc

from engagement.sinks.bigquery.json_value import to_json_value
from engagement.transform.columns import listed, repeated

_TEXT, _LONG, _TIME = pa.string(), pa.int64(), pa.timestamp("us", "UTC")
_NUMERIC = pa.decimal128(38, 9)
"""BigQuery's NUMERIC; the service refuses decimals of another scale."""
_FIRST_TIME_US, _LAST_TIME_US = -62_135_596_800_000_000, 253_402_300_799_999_999
"""The years 1 to 9999: what a TIMESTAMP can be."""

ROWS = pa.schema(
    [
        ("event_id", _LONG),
        ("content_id", _TEXT),
        ("user_id", _TEXT),
        ("event_type", _TEXT),
        ("event_timestamp", _TIME),
        ("duration_ms", _LONG),
        ("device", _TEXT),
        ("engagement_seconds", _NUMERIC),
        ("engagement_pct", _NUMERIC),
        ("content_slug", _TEXT),
        ("content_title", _TEXT),
        ("content_type", _TEXT),
        ("content_length_seconds", _LONG),
        ("raw_payload", _TEXT),
        ("processed_timestamp", _TIME),
        ("op", _TEXT),
        ("version", _LONG),
        ("flags", pa.list_(_TEXT)),
        ("kafka_partition", _LONG),
        ("kafka_offset", _LONG),
    ]
)
"""The public table's columns (tables.py) as the Write API takes them: JSON travels as text."""

_NAMES = {
    "event_timestamp": "event_ts",
    "content_slug": "slug",
    "content_title": "title",
    "content_length_seconds": "length_seconds",
}
"""Columns that the warehouse calls otherwise than CHANGES."""


def to_rows(versions: pa.RecordBatch, processed_us: int) -> pa.RecordBatch:
    """Row versions as the table's rows. In: CHANGES. Out: ROWS. Rows: 1 -> 1. No value can fail a row."""
    columns = [_column(versions, field, processed_us) for field in ROWS]
    return pa.RecordBatch.from_arrays(columns, schema=ROWS)


def _column(versions: pa.RecordBatch, field: pa.Field, processed_us: int) -> pa.Array:
    if field.name == "processed_timestamp":
        return repeated(processed_us, _TIME, len(versions))
    column = versions.column(_NAMES.get(field.name, field.name))
    if field.name == "raw_payload":
        return pa.array([to_json_value(text) for text in listed(column)], _TEXT)
    if field.name == "event_timestamp":
        return _times(column)
    return column.cast(field.type)


def _times(column: pa.Array) -> pa.Array:
    """Times that BigQuery can hold, NULL for others: a broker's time beyond all calendars lets such an event pass."""
    micros = column.cast(pa.timestamp("us", column.type.tz)).view(_LONG)
    held = pc.and_(pc.greater_equal(micros, _FIRST_TIME_US), pc.less_equal(micros, _LAST_TIME_US))
    return pc.if_else(held, micros, pa.scalar(None, _LONG)).view(_TIME)


def time_bounds(rows: pa.RecordBatch) -> tuple[int | None, int | None]:
    """Earliest and latest event_timestamp in microseconds since 1970; None when no row has one. In: ROWS."""
    bounds = pc.min_max(rows.column("event_timestamp").view(_LONG))
    return bounds["min"].as_py(), bounds["max"].as_py()
