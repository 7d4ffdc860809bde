"""The outcome of a message: contract section 9 and 2, read once more."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tests.reference.instant import FUTURE_LIMIT, LAST, YEAR_2000, micros_of, parse_instant
from tests.reference.strict_json import (
    Document,
    Json,
    JsonError,
    Number,
    as_text,
    has_lone_surrogate,
    read_json,
    shortest_bytes,
)

COLUMNS = ("id", "content_id", "user_id", "event_type", "event_ts", "duration_ms", "device", "raw_payload")
PLACEHOLDER = "__debezium_unavailable_value"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_EVENT_TYPES = ("play", "pause", "finish", "click")
_INT_MAX, _INT_MIN = 2**31 - 1, -(2**31)
_MEBIBYTE = 1024 * 1024
_STRING = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_OUTSIDE_STRINGS = 65_536
"""Characters in no string, up to which a message above 1 MiB is read."""
_ANY_TIME = 2**64
"""As Kafka's time: no event lies ahead of it."""

Row = dict[str, Json]


@dataclass(frozen=True)
class Image:
    """A row that a message gives; column values are None where they are not valid."""

    is_version: bool
    effect: int
    event_id: int | None = None
    content_id: str | None = None
    user_id: str | None = None
    event_type: str | None = None
    event_ts_micros: int | None = None
    duration_ms: int | None = None
    device: str | None = None
    raw_payload: Json = None


@dataclass(frozen=True)
class Outcome:
    """What becomes of a message: exactly one kind, a code for dead letters, and its one or two images."""

    kind: str
    images: tuple[Image, ...]
    code: str | None = None
    op: str | None = None
    version: int | None = None
    commit_lsn: int | None = None
    lsn: int | None = None
    half: int = 1


@dataclass(frozen=True)
class _Change:
    """An opened envelope."""

    op: str | None
    flat: bool
    version: int | None
    image: Row | None
    before: Row | None
    commit_lsn: int | None
    lsn: int | None
    wrong_case: bool = False


def decode(value: bytes | None, offset: int, kafka_ts: datetime, headers: Sequence[str] = ()) -> Outcome:
    """The one outcome of a message."""
    nothing = (Image(is_version=True, effect=0),)
    if value is None:
        return Outcome("tombstone", nothing)
    document = _read(value)
    large = len(value) > _MEBIBYTE
    if isinstance(document, str):
        return Outcome("dead_letter", nothing, code="E_TOO_LARGE" if large else document)
    change = _open(document, offset, headers)
    now = micros_of(kafka_ts)
    code = _refuse_change(change, now)
    if code and large and (change.image is None or _is_large(change.image)):
        code = "E_TOO_LARGE"
    op = change.op
    move = op == "d" and "__debezium.newkey" in headers
    images = [_own_image(change, code, now)]
    if op == "u" and change.before is not None and _refuse_row(change.before, _ANY_TIME, flat=False) is None:
        images.append(_image(change.before, _ANY_TIME, is_version=False, effect=-1))
    kind = "dead_letter" if code else "move" if move else "change"
    return Outcome(
        kind,
        tuple(images),
        code,
        op if op in ("c", "r", "u", "d", "t") else None,
        change.version,
        change.commit_lsn,
        change.lsn,
        0 if move else 1,
    )


def _read(value: bytes) -> dict[str, Json] | str:
    """The object a message holds, or the code that refuses it."""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return "E_UTF8"
    if len(value) > _MEBIBYTE and len(_STRING.sub("", text)) > _OUTSIDE_STRINGS:
        return "E_TOO_LARGE"
    return "E_UTF8" if has_lone_surrogate(text) else _read_object(text)


def _read_object(text: str) -> dict[str, Json] | str:
    try:
        document: Document = read_json(text)
    except JsonError:
        return "E_JSON"
    if not isinstance(document.value, dict):
        return "E_JSON"
    loose = document.has_repeated_names or document.has_trailing_data
    return "E_JSON_STRICT" if loose else document.value


def _open(root: Row, offset: int, headers: Sequence[str]) -> _Change:
    if isinstance(root.get("payload"), dict) and root.get("op") is None:
        root = _object(root["payload"]) or {}
    op, before, after, source = as_text(root.get("op")), *(_object(root.get(n)) for n in ("before", "after", "source"))
    if op is None and before is None and after is None and source is None:
        has_row = "id" in root or any(root.get(name) is not None for name in COLUMNS)
        return _Change("c", True, offset + 1, root if has_row else None, None, None, None)
    source = source or {}
    version = _integer(source.get("lsn"))
    sequence = source.get("sequence")
    commit_lsn, lsn = _sequence(sequence if isinstance(sequence, str) else None)
    image = before if op == "d" else _keep_old(after, before)
    if op == "c" and "__debezium.oldkey" in headers:
        op = "u"
        before = None if root.get("op") == "c" and before is None else before
    names = ("before", "after", "source", "op")
    wrong_case = any(name not in root and name in map(str.lower, root) for name in names)
    return _Change(op, False, version, image, before, commit_lsn, lsn if lsn is not None else version, wrong_case)


def _sequence(text: str | None) -> tuple[int | None, int | None]:
    """The two numbers of `["1","2"]` or `[null,"2"]`; anything else names no place."""
    if text is None or text[:1] != "[" or text[-1:] != "]" or text.count(",") != 1:
        return None, None
    first, second = text[1:-1].split(",")
    if (first != "null" and not _is_quoted_number(first)) or not _is_quoted_number(second):
        return None, None
    return _parse_long(first.strip('"')), _parse_long(second.strip('"'))


def _is_quoted_number(text: str) -> bool:
    digits = text[1:-1]
    return text[:1] == text[-1:] == '"' and len(text) > 2 and len(digits) < 20 and digits.isascii() and digits.isdigit()


def _parse_long(text: str) -> int | None:
    value = int(text) if text.isdigit() else None
    return value if value is not None and value < 2**63 else None


def _keep_old(after: Row | None, before: Row | None) -> Row | None:
    if after is None or before is None:
        return after
    kept = {
        name: before.get(name) for name in ("event_type", "device", "raw_payload") if after.get(name) == PLACEHOLDER
    }
    return {**after, **kept}


def _refuse_change(change: _Change, now: int) -> str | None:
    if not change.flat:
        if change.wrong_case or change.op not in ("c", "r", "u", "d") or change.version is None or change.version <= 0:
            return "E_ENVELOPE"
    if change.image is None:
        return "E_ENVELOPE"
    if _has_two_ids(change):
        return "E_ENVELOPE"
    if change.op == "d":
        return None if _event_id(change.image) else "E_ID"
    return _refuse_row(change.image, now, change.flat)


def _has_two_ids(change: _Change) -> bool:
    rows = (change.image or {}, change.before or {})
    return change.op == "u" and len({_event_id(row) for row in rows} - {None}) == 2


def _is_large(row: Row) -> bool:
    return shortest_bytes(row) > _MEBIBYTE


def _refuse_row(row: Row, now: int, flat: bool) -> str | None:
    if _is_large(row):
        return "E_TOO_LARGE"
    absent = [name for name in COLUMNS if name not in row]
    wrong_case = any(key.lower() in absent for key in row)
    missing = not flat and any(name != "id" for name in absent)
    placeholder = any(row.get(name) == PLACEHOLDER for name in ("event_type", "device", "raw_payload"))
    if wrong_case or missing or placeholder or not isinstance(row.get("device"), str | None):
        return "E_ENVELOPE"
    if _event_id(row) is None:
        return "E_ID"
    if any(row.get(name) is not None and _uuid(row.get(name)) is None for name in ("content_id", "user_id")):
        return "E_UUID"
    if _event_type(row) is None:
        return "E_EVENT_TYPE"
    return _refuse_time(row.get("event_ts"), now) or _refuse_duration(row.get("duration_ms"))


def _refuse_time(value: Json, now: int) -> str | None:
    micros = parse_instant(value) if isinstance(value, str) else None
    if micros is None:
        return "E_TS"
    if micros > min(now + FUTURE_LIMIT, LAST):
        return "E_TS_FUTURE"
    return "E_TS_RANGE" if micros < YEAR_2000 else None


def _refuse_duration(value: Json) -> str | None:
    if value is None:
        return None
    number = _integer(value)
    if number is None or not _INT_MIN <= number <= _INT_MAX:
        return "E_TYPE_DURATION"
    return "E_RANGE_DURATION" if number < 0 else None


def _own_image(change: _Change, code: str | None, now: int) -> Image:
    if change.image is None:
        return Image(is_version=True, effect=0)
    if change.op == "d":
        now = _ANY_TIME
    wrong = _refuse_row(change.image, now, change.flat)
    if code is not None:
        # What never counted and may yet be taken back has to be remembered until its time is past.
        kept = wrong == "E_TS_FUTURE" or (wrong is None and _has_two_ids(change))
        moment = change.image.get("event_ts") if kept else None
        meant = parse_instant(moment) if isinstance(moment, str) else None
        if meant is not None and meant > LAST:
            meant = None
        return Image(is_version=True, effect=0, event_id=_event_id(change.image), event_ts_micros=meant)
    effect = (-1 if change.op == "d" else 1) if wrong is None else 0
    return _image(change.image, now, is_version=True, effect=effect)


def _image(row: Row, now: int, *, is_version: bool, effect: int) -> Image:
    moment, duration = row.get("event_ts"), row.get("duration_ms")
    device, raw_payload = (None, None) if _is_large(row) else (row.get("device"), row.get("raw_payload"))
    return Image(
        is_version,
        effect,
        _event_id(row),
        _uuid(row.get("content_id")),
        _uuid(row.get("user_id")),
        _event_type(row),
        parse_instant(moment) if isinstance(moment, str) and _refuse_time(moment, now) is None else None,
        _integer(duration) if _refuse_duration(duration) is None else None,
        device if isinstance(device, str) else None,
        raw_payload,
    )


def _event_id(row: Row) -> int | None:
    number = _integer(row.get("id"))
    return number if number is not None and number > 0 else None


def _event_type(row: Row) -> str | None:
    value = row.get("event_type")
    return value if isinstance(value, str) and value in _EVENT_TYPES else None


def _uuid(value: Json) -> str | None:
    return value.lower() if isinstance(value, str) and _UUID.fullmatch(value) else None


def _integer(value: Json) -> int | None:
    return value.integer() if isinstance(value, Number) else None


def _object(value: Json) -> Row | None:
    return value if isinstance(value, dict) else None
