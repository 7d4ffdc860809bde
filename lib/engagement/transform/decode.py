"""Messages to row images, on Arrow: plain inserts by columns, any other message as envelope.py judges it.

The same checks as Spark expressions are 370 KB of generated Java, planned anew in every micro-batch: see
docs/decisions/0006-decode-in-python.md.
"""

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engagement.schemas import IMAGES, Kind
from engagement.transform.columns import listed
from engagement.transform.envelope import Effect, Headers, Outcome, read_message
from engagement.transform.images import in_order
from engagement.transform.inserts import read_inserts
from engagement.transform.json_text import JsonReader

_CARRIED = ("topic", "partition", "offset", "timestamp")
"""Columns of a message that go into all its rows as they are."""
_TIME = pa.timestamp("us", "UTC")
_LONG, _INT, _TEXT, _FLAG = pa.int64(), pa.int32(), pa.string(), pa.bool_()


def decode_batch(reader: JsonReader, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Every message's outcome as row images.

    In: NARROW_MESSAGES. Out: IMAGES. Rows: 1 -> 1, or 2 for an update whose `before` is valid: the version row first,
    then the row to take back. Order: kept. Never raises for a row, whatever its bytes.
    """
    inserts = read_inserts(batch)
    if len(inserts.places) == batch.num_rows:
        return inserts.images
    others = np.setdiff1d(np.arange(batch.num_rows), inserts.places)
    images = decode_each(reader, batch.take(pa.array(others, _INT)))
    places = others[np.cumsum(images.column("is_version").to_numpy(zero_copy_only=False)) - 1]
    return in_order([(inserts.images, inserts.places), (images, places)])


def decode_each(reader: JsonReader, batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same, one message after the other, whatever it is."""
    kafka_us = listed(batch.column("timestamp").cast(_TIME).view(_LONG))
    replay_of = _places(batch.column("replay_of"), batch.column("offset"))
    values, offsets, replayed = (listed(c) for c in (batch.column("value"), batch.column("offset"), replay_of))
    header_names = [None if text is None else json.loads(text) for text in listed(batch.column("header_names_json"))]
    outcomes = [
        read_message(reader, value, offset, at, Headers(names or (), stands_for))
        for value, offset, names, stands_for, at in zip(values, offsets, header_names, replayed, kafka_us, strict=True)
    ]
    rows = [(i, o, effect) for i, o in enumerate(outcomes) for effect in o.effects]
    origins, row_outcomes, effects = zip(*rows, strict=True) if rows else ((),) * 3
    messages = batch.select(_CARRIED).take(pa.array(origins, _INT))
    # A message is refused once, on the row of its own version; what its `before` takes back is a change like others.
    refused = [o.refusal if e.is_version else None for o, e in zip(row_outcomes, effects, strict=True)]
    kept = [i if r else None for i, r in zip(origins, refused, strict=True)]
    columns = {
        "topic": messages.column("topic"),
        "kafka_partition": messages.column("partition"),
        "kafka_offset": messages.column("offset"),
        "kafka_ts": messages.column("timestamp"),
        "kind": pa.array([o.kind if e.is_version else Kind.CHANGE for _, o, e in rows], _TEXT),
        "code": pa.array([None if r is None else r.code for r in refused], _TEXT),
        "detail": pa.array([None if r is None else r.detail for r in refused], _TEXT),
        "raw_value": batch.column("value").take(pa.array(kept, _INT)),
        "header_names": pa.array([None if i is None else header_names[i] for i in kept], pa.list_(_TEXT)),
        "replay_of": replay_of.take(pa.array(origins, _INT)),
        **_outcome_columns(row_outcomes),
        **_effect_columns(effects),
    }
    return pa.RecordBatch.from_arrays([columns[name] for name in IMAGES.names], IMAGES.names)


def _places(replay_of: pa.Array, offsets: pa.Array) -> pa.Array:
    """Offsets that replays stand for, NULL for what is none: whoever writes to the topic may write any number.

    One that names a later message than itself was refused before the topic was made again: it stands in its own place.
    """
    earlier = pc.min_element_wise(replay_of, offsets, skip_nulls=False)
    return pc.if_else(pc.greater_equal(replay_of, 0), earlier, pa.scalar(None, _LONG))


def _outcome_columns(outcomes: Sequence[Outcome]) -> dict[str, pa.Array]:
    _, _, _, ops, places, halves = zip(*outcomes, strict=True) if outcomes else ((),) * 6
    versions, commit_lsns, lsns, source_ts = zip(*places, strict=True) if places else ((),) * 4
    return {
        "op": pa.array(ops, _TEXT),
        "version": pa.array(versions, _LONG),
        "commit_lsn": pa.array(commit_lsns, _LONG),
        "lsn": pa.array(lsns, _LONG),
        "source_ts_ms": pa.array(source_ts, _LONG),
        "half": pa.array(halves, _INT),
    }


def _effect_columns(effects: Sequence[Effect]) -> dict[str, pa.Array]:
    images, are_versions, numbers = zip(*effects, strict=True) if effects else ((),) * 3
    columns = zip(*images, strict=True) if images else ((),) * 8
    event_ids, content_ids, user_ids, types, times, durations, devices, payloads = columns
    return {
        "is_version": pa.array(are_versions, _FLAG),
        "effect": pa.array(numbers, _INT),
        "event_id": pa.array(event_ids, _LONG),
        "content_id": pa.array(content_ids, _TEXT),
        "user_id": pa.array(user_ids, _TEXT),
        "event_type": pa.array(types, _TEXT),
        "event_ts": pa.array(times, _LONG).view(_TIME),
        "duration_ms": pa.array(durations, _INT),
        "device": pa.array(devices, _TEXT),
        "raw_payload": pa.array(payloads, _TEXT),
    }
