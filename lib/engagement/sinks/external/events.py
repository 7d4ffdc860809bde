"""Row versions as the receiver gets them: the contract's JSON, made once per event and sent as it is. Pure."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa

from engagement.sinks.external.keys import event_key
from engagement.transform.columns import listed
from engagement.transform.digest import digest_halves, micros_of

_COLUMNS = (
    *("kafka_partition", "kafka_offset", "source_ts_ms", "event_id", "version", "op", "content_id", "user_id"),
    *("event_type", "title", "content_type", "device", "engagement_seconds", "engagement_pct", "raw_payload"),
)


@dataclass(frozen=True, slots=True)
class RowVersion:
    """What names a row version, and is kept of it."""

    partition: int
    offset: int
    commit_ms: int | None
    """Commit time in the source, ms since 1970."""
    event_id: int
    version: int
    op: str
    key: str
    event_us: int | None = None
    """Its event_ts, microseconds since 1970."""
    digest: tuple[int, int] = (0, 0)
    """Halves of the row's digest (transform/digest.py)."""


@dataclass(frozen=True, slots=True)
class Event:
    """A row version, ready to be sent."""

    version: RowVersion
    body: str
    """Its JSON object."""


def to_events(versions: pa.RecordBatch, installation: str) -> Iterator[Event]:
    """Row versions as events. In: CHANGES, row versions only. Order: kept. No value can fail a row."""
    micros = micros_of(versions.column("event_ts"))
    digests = digest_halves({**dict(zip(versions.schema.names, versions.columns, strict=True)), "event_us": micros})
    times = zip(_iso_times(micros), listed(micros), map(tuple, digests.tolist()), strict=True)
    rows = zip(times, *(_values(versions.column(name)) for name in _COLUMNS), strict=True)
    for (at, event_us, digest), partition, offset, commit_ms, event_id, version, op, *told in rows:
        content_id, user_id, event_type, title, content_type, device, seconds, pct, raw_payload = told
        key = event_key(installation, event_id, version)
        body = (
            f'{{"event_id":{event_id},"content_id":{_text(content_id)},"user_id":{_text(user_id)},'
            f'"event_type":{_text(event_type)},"timestamp":{_text(at)},'
            f'"metadata":{{"title":{_text(title)},"type":{_text(content_type)},"device":{_text(device)},'
            f'"seconds":{seconds or "null"},"pct":{pct or "null"},"raw_payload":{_payload(raw_payload)}}},'
            f'"op":{_text(op)},"version":{version},"idempotency_key":{_text(key)}}}'
        )
        yield Event(RowVersion(partition, offset, commit_ms, event_id, version, op, key, event_us, digest), body)


def batch_body(bodies: list[str], key: str) -> str:
    """The JSON of several events in one request."""
    return f'{{"events":[{",".join(bodies)}],"batch_id":{_text(key)},"event_count":{len(bodies)}}}'


def heartbeat_body(at: str) -> str:
    """The JSON of a heartbeat; `at` is ISO 8601."""
    return json.dumps({"type": "heartbeat", "source": "engagement", "timestamp": at})


def _iso_times(micros: pa.Array) -> list[str | None]:
    """Microseconds since 1970 in ISO 8601, by numpy: Python's own end with the year 9999, a broker's clock need not."""
    written = np.datetime_as_string(micros.fill_null(0).to_numpy().view("datetime64[us]"), unit="us")
    return [f"{text}Z" if valid else None for text, valid in zip(written, listed(micros.is_valid()), strict=True)]


def _values(column: pa.Array) -> list[Any]:
    """A column's values; decimals as text, which Arrow writes as Python does."""
    return listed(column.cast(pa.string()) if pa.types.is_decimal(column.type) else column)


def _text(value: str | None) -> str:
    return "null" if value is None else encode_basestring_ascii(value)


def _payload(text: str | None) -> str:
    """JSON as it came, other text as a JSON string."""
    if text is None:
        return "null"
    try:
        _STRICT.decode(text)
    except (ValueError, RecursionError):
        return _text(text)
    return text


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_STRICT = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=str, parse_float=str)
"""Numbers stay text: reading one of thousands of digits would take long, and its value is nobody's business here."""
