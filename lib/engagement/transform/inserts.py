r"""Inserts as Debezium writes them: read by one pattern, and judged by columns.

Nearly every message is one: a valid row in an envelope whose members come in Debezium's order, each once, none spelled
in an unusual way. What the pattern accepts is strict JSON that envelope.py would find nothing wrong with, but for times
that lie ahead. All else is not refused here but left to it: another spelling, another release of Debezium, every
update, deletion and header.
"""

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engagement.schemas import EVENT_TYPES
from engagement.transform.columns import listed
from engagement.transform.images import plain_images
from engagement.transform.json_text import MAX_BYTES
from engagement.transform.validate import FUTURE_LIMIT_US, UNAVAILABLE

_LONG, _INT, _TEXT = pa.int64(), pa.int32(), pa.string()
_TIME = pa.timestamp("us", "UTC")
_MS_US = 1000

_WORD = r'"[^"\\\x00-\x1f]*+"'
_TEXT_LITERAL = r'"(?:[^"\\\x00-\x1f]++|\\["\\/bfnrt])*+"'
_NUMBER = r"-?(?:0|[1-9][0-9]*+)"
_POSITIVE = r"[1-9][0-9]{0,17}"  # of at most 64 bits, whatever its digits
_UUID = r'"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"'
# Days that there are in any year, from 2000 on.
_DAY = r"2[0-9]{3}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.(?:[0-9]{3}|[0-9]{6}))?"
_KEPT = rf'(?!"{UNAVAILABLE}"){_TEXT_LITERAL}'

# Members in Debezium's order. Groups are what is read of the row and of its place in the log; the rest is looked at.
_ROW = {
    "id": rf"({_POSITIVE})",
    "content_id": rf"({_UUID}|null)",
    "user_id": rf"({_UUID}|null)",
    "event_type": rf'("(?:{"|".join(EVENT_TYPES)})")',
    "event_ts": rf'("{_DAY}T{_CLOCK}Z")',
    "duration_ms": r"(0|[1-9][0-9]{0,8}|null)",
    "device": rf"({_KEPT}|null)",
    "raw_payload": rf"({_KEPT}|null)",
}
_SOURCE = {
    "version": _WORD,
    "connector": _WORD,
    "name": _WORD,
    "ts_ms": r"(0|[1-9][0-9]{0,14})",
    "snapshot": _WORD,
    "db": _WORD,
    "sequence": rf'"\[\\"({_POSITIVE})\\",\\"({_POSITIVE})\\"\]"',
    "ts_us": _NUMBER,
    "ts_ns": _NUMBER,
    "schema": _WORD,
    "table": _WORD,
    "txId": rf"(?:{_NUMBER}|null)",
    "lsn": rf"({_POSITIVE})",
    "xmin": rf"(?:{_NUMBER}|null)",
    "origin": rf"(?:{_WORD}|null)",
    "origin_lsn": rf"(?:{_NUMBER}|null)",
}


def _object(members: dict[str, str]) -> str:
    return r"\{" + ",".join(f'"{name}":{pattern}' for name, pattern in members.items()) + r"\}"


_INSERT = re.compile(
    _object(
        {
            "before": "null",
            "after": _object(_ROW),
            "source": _object(_SOURCE),
            "transaction": "null",
            "op": '("[cr]")',
            **dict.fromkeys(("ts_ms", "ts_us", "ts_ns"), _NUMBER),
        }
    )
)
_READ = (*_ROW, "source_ts_ms", "commit_lsn", "lsn", "version", "op")
"""The pattern's groups; Debezium's `sequence` holds the LSNs of commit and change, `source.lsn` is our version."""


class Inserts(NamedTuple):
    """What was read of a batch."""

    images: pa.RecordBatch
    """Contract IMAGES, one row per message."""
    places: npt.NDArray[np.int64]
    """Which messages of the batch these are."""


def read_inserts(messages: pa.RecordBatch) -> Inserts:
    """The images of all messages of a batch that are plainly valid inserts.

    In: NARROW_MESSAGES. Out: IMAGES. Rows: 1 -> 1 or 0. Order: kept. Equal to what `read_message` gives for them.
    """
    bare = pc.and_(messages.column("header_names_json").is_null(), messages.column("replay_of").is_null())
    pairs = zip(listed(messages.column("value")), listed(bare), strict=True)
    found = [_match(value) if is_bare else None for value, is_bare in pairs]
    places = np.flatnonzero([match is not None for match in found])
    read = _columns([match.groups() for match in found if match is not None])
    images = _images(messages.take(pa.array(places, _INT)), read)
    timely = _are_timely(images)
    return Inserts(images, places) if timely.all() else Inserts(images.filter(pa.array(timely)), places[timely])


def _match(value: bytes | None) -> re.Match[str] | None:
    if value is None or len(value) > MAX_BYTES:
        return None
    try:
        return _INSERT.fullmatch(value.decode())
    except UnicodeDecodeError:
        return None


def _columns(rows: Sequence[tuple[str, ...]]) -> dict[str, list[object]]:
    """Each group's JSON literals, read as one array."""
    literals = zip(*rows, strict=True) if rows else ((),) * len(_READ)
    return {name: json.loads(f"[{','.join(column)}]") for name, column in zip(_READ, literals, strict=True)}


def _images(messages: pa.RecordBatch, read: dict[str, list[object]]) -> pa.RecordBatch:
    longs = ("version", "commit_lsn", "lsn", "source_ts_ms")
    texts = ("content_id", "user_id", "event_type", "device", "raw_payload", "op")
    columns = {
        "topic": messages.column("topic"),
        "kafka_partition": messages.column("partition"),
        "kafka_offset": messages.column("offset"),
        "kafka_ts": messages.column("timestamp"),
        "event_id": pa.array(read["id"], _LONG),
        "event_ts": pa.array(read["event_ts"], _TEXT).cast(_TIME),
        "duration_ms": pa.array(read["duration_ms"], _INT),
        **{name: pa.array(read[name], _LONG) for name in longs},
        **{name: pa.array(read[name], _TEXT) for name in texts},
    }
    return plain_images(columns, messages.num_rows)


def _are_timely(images: pa.RecordBatch) -> npt.NDArray[np.bool_]:
    """Whether neither the event nor its commit lies ahead of Kafka's time."""
    event_us, kafka_us = (images.column(name).cast(_TIME).view(_LONG).to_numpy() for name in ("event_ts", "kafka_ts"))
    latest_us = kafka_us + FUTURE_LIMIT_US
    commit_us = images.column("source_ts_ms").to_numpy() * _MS_US
    timely: npt.NDArray[np.bool_] = (event_us <= latest_us) & (commit_us <= latest_us)
    return timely
