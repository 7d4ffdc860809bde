"""Rows of the events table to row images, on Arrow: what decode.py makes of the same row as a message.

A row that is plainly valid needs none of the checks that a message's bytes need, and is taken by columns. Every other
row is written as the flat message that it would be and decoded like any other, so that each refusal has one home.
"""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engagement.schemas import EVENT_TYPES, ROW_COLUMNS, TABLE_TOPIC, Kind
from engagement.transform.columns import repeated
from engagement.transform.decode import decode_each
from engagement.transform.images import in_order, plain_images
from engagement.transform.instant import to_text
from engagement.transform.json_text import MAX_BYTES, JsonReader
from engagement.transform.validate import FUTURE_LIMIT_US, TOASTABLE, UNAVAILABLE, YEAR_2000_US

_TIME = pa.timestamp("us", "UTC")
_LONG, _INT, _TEXT = pa.int64(), pa.int32(), pa.string()
_PLAIN_TEXT_BYTES = MAX_BYTES // 16
"""Text of a row that certainly fits into a message: JSON spells a character with six at most."""
_LETTERS = ("event_type", "device", "raw_payload")
_PLAIN_TYPES = pa.array(EVENT_TYPES, _TEXT)
# Of the row as it was read, which stands at no place in the source's log.
_NO_PLACE = {
    "topic": (None, _TEXT),
    "kafka_partition": (None, _INT),
    "kafka_offset": (None, _LONG),
    "op": ("r", _TEXT),
    "version": (0, _LONG),
    "commit_lsn": (None, _LONG),
    "lsn": (None, _LONG),
    "source_ts_ms": (None, _LONG),
}


def decode_rows(reader: JsonReader, rows: pa.RecordBatch) -> pa.RecordBatch:
    """Every row's outcome as a row image, `kafka_ts` being the time at which it was read.

    In: TABLE_ROWS. Out: IMAGES. Rows: 1 -> 1. Order: kept. Never raises for a row. Equal to `decode_batch` of the rows
    as flat messages without an offset.
    """
    plain = _is_plain(rows)
    if pc.all(plain).as_py() is not False:
        return _by_columns(rows)
    others = pc.invert(plain)
    images = (_by_columns(rows.filter(plain)), decode_each(reader, to_messages(rows.filter(others))))
    places = (np.flatnonzero(mask.to_numpy(zero_copy_only=False)) for mask in (plain, others))
    return in_order([*zip(images, places, strict=True)])


def to_messages(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Rows as the flat messages that they would be. In: TABLE_ROWS. Out: NARROW_MESSAGES. Rows: 1 -> 1. Order: kept."""
    columns = {name: rows.column(name) for name in ROW_COLUMNS if name != "event_ts"}
    times = [None if us is None else to_text(us) for us in rows.column("event_us").to_pylist()]
    listed = {name: column.to_pylist() for name, column in columns.items()} | {"event_ts": times}
    values = [
        json.dumps(dict(zip(ROW_COLUMNS, row, strict=True)), ensure_ascii=False).encode()
        for row in zip(*(listed[name] for name in ROW_COLUMNS), strict=True)
    ]
    count = rows.num_rows
    return pa.RecordBatch.from_pydict(
        {
            "topic": pa.nulls(count, _TEXT),
            "partition": pa.nulls(count, _INT),
            "offset": pa.nulls(count, _LONG),
            "timestamp": rows.column("read_ts").cast(_TIME),
            "value": pa.array(values, pa.binary()),
            "header_names_json": pa.nulls(count, _TEXT),
            "replay_of": pa.nulls(count, _LONG),
        }
    )


def place_refused(changes: pa.RecordBatch, ids: pa.Array) -> pa.RecordBatch:
    """Dead letters with the place that names them, (TABLE_TOPIC, 0, id), and no time of Kafka on any other row.

    In and out: CHANGES of TABLE_ROWS with these ids. Rows: 1 -> 1. Order: kept.
    """
    refused = pc.equal(changes.column("kind"), str(Kind.DEAD_LETTER))
    places = {
        "topic": pa.scalar(TABLE_TOPIC, _TEXT),
        "kafka_partition": pa.scalar(0, _INT),
        "kafka_offset": ids,
        "kafka_ts": changes.column("kafka_ts"),
    }
    for name, value in places.items():
        given = pc.if_else(refused, value, pa.scalar(None, value.type))
        changes = changes.set_column(changes.schema.get_field_index(name), name, given)
    return changes


def _is_plain(rows: pa.RecordBatch) -> pa.BooleanArray:
    """Whether a row passes every check for certain; false also where that takes a closer look."""
    event_us = rows.column("event_us")
    latest = pc.add(rows.column("read_ts").cast(_TIME).view(_LONG), FUTURE_LIMIT_US)
    conditions = [
        pc.greater(rows.column("id"), 0),
        pc.is_in(rows.column("event_type"), _PLAIN_TYPES),
        pc.and_(pc.greater_equal(event_us, YEAR_2000_US), pc.less_equal(event_us, latest)),
        pc.greater_equal(pc.coalesce(rows.column("duration_ms"), 0), 0),
        pc.less_equal(_text_bytes(rows), _PLAIN_TEXT_BYTES),
        *(pc.not_equal(pc.coalesce(rows.column(name), ""), UNAVAILABLE) for name in TOASTABLE),
    ]
    plain = conditions[0].fill_null(False)
    for condition in conditions[1:]:
        plain = pc.and_(plain, condition.fill_null(False))
    return plain


def _text_bytes(rows: pa.RecordBatch) -> pa.Array:
    lengths = [pc.coalesce(pc.binary_length(rows.column(name)), 0).cast(_LONG) for name in _LETTERS]
    return pc.add(pc.add(lengths[0], lengths[1]), lengths[2])


def _by_columns(rows: pa.RecordBatch) -> pa.RecordBatch:
    count = rows.num_rows
    columns = {name: repeated(value, kind, count) for name, (value, kind) in _NO_PLACE.items()}
    columns |= {
        "kafka_ts": rows.column("read_ts").cast(_TIME),
        "event_id": rows.column("id"),
        "event_ts": rows.column("event_us").view(_TIME),
        **{name: rows.column(name) for name in ROW_COLUMNS if name not in {"id", "event_ts"}},
    }
    return plain_images(columns, count)
