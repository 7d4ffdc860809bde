"""The checks of one row image, in the contract's order, and what is left of each column."""

import re
from typing import NamedTuple

from engagement.schemas import EVENT_TYPES, ROW_COLUMNS, DeadLetterCode
from engagement.transform.instant import SECOND_US, parse_instant
from engagement.transform.json_text import MAX_BYTES, MINUS_ZERO, Json, JsonObject, Refusal, to_compact_text

UNAVAILABLE = "__debezium_unavailable_value"
"""What Debezium sends for a TOASTed value that an update did not touch."""
TOASTABLE = ("event_type", "device", "raw_payload")
FUTURE_LIMIT_US = 5 * 60 * SECOND_US
"""How far an event may lie ahead of Kafka time."""
ANY_TIME_US = 2**63 - 1
"""As a limit for events' times: none."""

_COLUMNS = frozenset(ROW_COLUMNS)
_TYPES = frozenset(EVENT_TYPES)
YEAR_2000_US = 946_684_800 * SECOND_US
"""The earliest time an event may have."""
_LAST_US = 253_402_300_800 * SECOND_US - 1
"""The last of the year 9999: neither BigQuery nor Python has a later one."""
_INT_MAX, _INT_MIN = 2**31 - 1, -(2**31)
_UUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")

TOO_LARGE = Refusal(DeadLetterCode.E_TOO_LARGE, "more than 1 MiB")
_BAD_ID = Refusal(DeadLetterCode.E_ID, "id is missing or no integer from 1 to 2^63-1")


class Image(NamedTuple):
    """A row as the sinks see it; each column is None where it is NULL or not valid."""

    event_id: int | None = None
    content_id: str | None = None
    user_id: str | None = None
    event_type: str | None = None
    event_us: int | None = None
    """Microseconds since 1970; stays where a refused row may return as a `before`: see the ranking's memory of it."""
    duration_ms: int | None = None
    device: str | None = None
    raw_payload: str | None = None


class CheckedRow(NamedTuple):
    """What a row holds, and the first check that it fails."""

    image: Image
    refusal: Refusal | None


def check_id(row: JsonObject) -> Refusal | None:
    """The check of the id, the only one that a deletion must pass."""
    return _BAD_ID if _clean_id(row.get("id")) is None else None


def check_row(row: JsonObject, latest_us: int, *, flat: bool) -> CheckedRow:
    """Read a row's columns and judge them.

    Args:
        row: the row as JSON.
        latest_us: microseconds since 1970; an event after that is E_TS_FUTURE.
        flat: whether the row came without an envelope, and so may leave out columns that allow NULL.

    """
    content_id, user_id = row.get("content_id"), row.get("user_id")
    event_us, ts_refusal = _read_time(row.get("event_ts"), latest_us)
    duration, device = row.get("duration_ms"), row.get("device")
    if duration is MINUS_ZERO:
        duration = 0
    image = Image(
        _clean_id(row.get("id")),
        _clean_uuid(content_id),
        _clean_uuid(user_id),
        _clean_type(row.get("event_type")),
        event_us,
        duration if type(duration) is int and 0 <= duration <= _INT_MAX else None,
        device if isinstance(device, str) else None,
        as_text(row.get("raw_payload")),
    )
    refusal = _check_shape(row, flat=flat)
    if refusal is None and image.event_id is None:
        refusal = _BAD_ID
    if refusal is None and image.content_id is None and content_id is not None:
        refusal = Refusal(DeadLetterCode.E_UUID, "content_id is no UUID")
    if refusal is None and image.user_id is None and user_id is not None:
        refusal = Refusal(DeadLetterCode.E_UUID, "user_id is no UUID")
    if refusal is None and image.event_type is None:
        refusal = Refusal(DeadLetterCode.E_EVENT_TYPE, "event_type is none of the four")
    return CheckedRow(image, refusal or ts_refusal or _check_duration(duration))


def is_too_large(row: JsonObject) -> bool:
    """Whether a row takes more than 1 MiB as compact JSON in UTF-8: no message spells it in fewer bytes."""
    return len(to_compact_text(row).encode()) > MAX_BYTES


def as_text(value: Json) -> str | None:
    """A JSON value as text: text itself, anything else as compact JSON, None for null."""
    return value if value is None or isinstance(value, str) else to_compact_text(value)


def _clean_id(value: Json) -> int | None:
    return value if type(value) is int and value > 0 else None


def _clean_uuid(value: Json) -> str | None:
    return value.lower() if isinstance(value, str) and _UUID.fullmatch(value) else None


def _clean_type(value: Json) -> str | None:
    return value if isinstance(value, str) and value in _TYPES else None


def _read_time(value: Json, latest_us: int) -> tuple[int | None, Refusal | None]:
    event_us = parse_instant(value) if isinstance(value, str) else None
    if event_us is None:
        return None, Refusal(DeadLetterCode.E_TS, "event_ts is no time with a zone")
    if event_us > _LAST_US:
        return None, Refusal(DeadLetterCode.E_TS_FUTURE, "event_ts is beyond the year 9999")
    if event_us > latest_us:
        return event_us, Refusal(DeadLetterCode.E_TS_FUTURE, "event_ts is over 5 minutes ahead of Kafka time")
    if event_us < YEAR_2000_US:
        return None, Refusal(DeadLetterCode.E_TS_RANGE, "event_ts is before 2000")
    return event_us, None


def _check_duration(value: Json) -> Refusal | None:
    if value is None:
        return None
    if type(value) is not int or not _INT_MIN <= value <= _INT_MAX:
        return Refusal(DeadLetterCode.E_TYPE_DURATION, "duration_ms is no 32-bit integer")
    return Refusal(DeadLetterCode.E_RANGE_DURATION, "duration_ms is negative") if value < 0 else None


def _check_shape(row: JsonObject, *, flat: bool) -> Refusal | None:
    code = DeadLetterCode.E_ENVELOPE
    if not row.keys() >= _COLUMNS:
        absent = _COLUMNS - row.keys()
        if any(name.lower() in absent for name in row):
            return Refusal(code, "a column's name is in the wrong case")
        if not flat and absent != {"id"}:
            return Refusal(code, "a column is absent")
    if any(row.get(name) == UNAVAILABLE for name in TOASTABLE):
        return Refusal(code, "a value is unavailable and there is no before that holds it")
    if not isinstance(row.get("device"), str | None):
        return Refusal(code, "device is not text")
    return None
