"""One message to its one outcome: what kind of change it is, where it stands in the source's log, its row images."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from engagement.schemas import ROW_COLUMNS, TRUNCATE, DeadLetterCode, Kind
from engagement.transform.json_text import MAX_BYTES, MINUS_ZERO, Json, JsonObject, JsonReader, Refusal
from engagement.transform.validate import (
    ANY_TIME_US,
    FUTURE_LIMIT_US,
    TOASTABLE,
    TOO_LARGE,
    UNAVAILABLE,
    CheckedRow,
    Image,
    check_id,
    check_row,
    is_too_large,
)

NEW_KEY, OLD_KEY = "__debezium.newkey", "__debezium.oldkey"
_MEMBERS = frozenset({"before", "after", "source", "op"})
_OPS = frozenset("crud")
# Debezium's text is ["1","2"], or [null,"2"] before the first commit that the connector saw.
_SEQUENCE = re.compile(r'\[(?:"([0-9]{1,19})"|null),"([0-9]{1,19})"\]')
_MAX_LONG = 2**63 - 1
_MS_US = 1000


class Headers(NamedTuple):
    """What a message's headers say."""

    names: Sequence[str] = ()
    replay_of: int | None = None
    """Offset, in the same partition, of the refused message that this one stands for; None for all but replays."""


class Effect(NamedTuple):
    """A row image and what it does on the board."""

    image: Image
    is_version: bool
    effect: int
    """+1 the image counts, -1 it is taken back, 0 neither."""


class Place(NamedTuple):
    """Where a change stands in the source's log (columns of IMAGES)."""

    version: int | None = None
    commit_lsn: int | None = None
    lsn: int | None = None
    source_ts_ms: int | None = None


class Outcome(NamedTuple):
    """What becomes of a message: one kind, and its own row image, followed by the `before` of an update."""

    kind: Kind
    effects: tuple[Effect, ...]
    refusal: Refusal | None = None
    op: str | None = None
    place: Place = Place()
    half: int = 1


class _Change(NamedTuple):
    """An opened envelope."""

    op: str | None
    flat: bool
    own: JsonObject | None
    """The row that the message is about: `after`, the `before` of a deletion, or a flat row itself."""
    before: JsonObject | None
    place: Place
    has_odd_names: bool = False
    """Whether a member's name is in the wrong case: what it holds would be lost without a word."""
    is_large: bool = False
    """Whether the message has room for a row that is too large."""


_NO_HEADERS = Headers()
_NOTHING = (Effect(Image(), is_version=True, effect=0),)


def read_message(
    reader: JsonReader, value: bytes | None, offset: int | None, kafka_us: int, headers: Headers = _NO_HEADERS
) -> Outcome:
    """The outcome of a message, whatever its bytes; raises nothing.

    Args:
        reader: reads the JSON.
        value: the message's bytes; None is a tombstone.
        offset: its place in the partition; None for a row that backfill read from the table.
        kafka_us: Kafka's time of the message, microseconds since 1970.
        headers: what they say. A replay gives no take-back and no place in the source's log: its `before` was taken
            back when it was refused, or lies behind it, and its place has long been passed.

    """
    if value is None:
        return Outcome(Kind.TOMBSTONE, _NOTHING)
    document = reader.read(value)
    is_large = len(value) > MAX_BYTES
    if isinstance(document, Refusal):
        return Outcome(Kind.DEAD_LETTER, _NOTHING, TOO_LARGE if is_large else document)
    is_replay = headers.replay_of is not None
    change = _open(document, headers.replay_of if is_replay else offset, kafka_us, headers.names)
    if is_large:
        change = change._replace(is_large=True)
    own, refusal = _judge_own(change, kafka_us)
    effects = (own, *_take_back(change)) if change.op == "u" and not is_replay else (own,)
    moves = change.op == "d" and NEW_KEY in headers.names
    kind = Kind.DEAD_LETTER if refusal else Kind.MOVE if moves else Kind.CHANGE
    # Anything else would quote the payload; `t` stays, since a TRUNCATE raises an alarm of its own.
    op = change.op if change.op in _OPS or change.op == TRUNCATE else None
    place = Place(change.place.version) if is_replay else change.place
    return Outcome(kind, effects, refusal, op, place, 0 if moves else 1)


def _open(root: JsonObject, offset: int | None, kafka_us: int, headers: Sequence[str]) -> _Change:
    payload = root.get("payload")
    if isinstance(payload, dict) and root.get("op") is None:
        root = payload
    op = root.get("op")
    before, after, source = (_as_object(root.get(name)) for name in ("before", "after", "source"))
    if op is None and before is None and after is None and source is None:
        is_row = "id" in root or any(root.get(name) is not None for name in ROW_COLUMNS)
        version = 0 if offset is None else offset + 1
        return _Change("r" if offset is None else "c", True, root if is_row else None, None, Place(version))
    # A row that moved here from another key is an update that left its `before` in the other partition.
    if op == "c" and OLD_KEY in headers:
        op = "u"
    own = before if op == "d" else _with_kept_values(after, before)
    op = op if isinstance(op, str) else None
    return _Change(op, False, own, before, _read_place(source or {}, kafka_us), _has_odd_names(root))


def _has_odd_names(root: JsonObject) -> bool:
    if root.keys() >= _MEMBERS:
        return False
    absent = _MEMBERS - root.keys()
    return any(name.lower() in absent for name in root)


def _read_place(source: JsonObject, kafka_us: int) -> Place:
    version, ts_ms, sequence = _as_long(source.get("lsn")), _as_long(source.get("ts_ms")), source.get("sequence")
    match = _SEQUENCE.fullmatch(sequence) if isinstance(sequence, str) else None
    commit_lsn, lsn = (_parse_long(part) for part in match.groups()) if match else (None, None)
    # A commit cannot lie far ahead of its message: believed, such a time would make all that follows look old. One
    # before 1970 may be too low for the sums that sinks make of it.
    if ts_ms is not None and not 0 <= ts_ms * _MS_US <= kafka_us + FUTURE_LIMIT_US:
        ts_ms = None
    return Place(version, commit_lsn, version if lsn is None else lsn, ts_ms)


def _with_kept_values(after: JsonObject | None, before: JsonObject | None) -> JsonObject | None:
    """`after`, with what Debezium left out of an update (a large value that did not change) taken from `before`."""
    if after is None or before is None:
        return after
    kept = {name: before.get(name) for name in TOASTABLE if after.get(name) == UNAVAILABLE}
    return {**after, **kept} if kept else after


def _judge_own(change: _Change, kafka_us: int) -> tuple[Effect, Refusal | None]:
    refusal = _check_envelope(change)
    if change.own is None:
        return _NOTHING[0], TOO_LARGE if change.is_large else refusal
    is_deletion = change.op == "d"
    latest_us = ANY_TIME_US if is_deletion else kafka_us + FUTURE_LIMIT_US
    row = check_row(change.own, latest_us, flat=change.flat)
    if change.is_large:
        row = _with_size(row, change.own)
    refusal = refusal or (check_id(change.own) if is_deletion else row.refusal)
    if refusal is not None:
        refusal = TOO_LARGE if row.refusal is TOO_LARGE else refusal
        event_us = row.image.event_us if _may_return(change, row) else None
        return Effect(Image(row.image.event_id, event_us=event_us), is_version=True, effect=0), refusal
    counts = row.refusal is None
    return Effect(row.image, is_version=True, effect=(-1 if is_deletion else 1) if counts else 0), None


def _with_size(checked: CheckedRow, row: JsonObject) -> CheckedRow:
    """The same, but for a row that is too large: size is the first check.

    The row's, not the message's: one that came alone and counted is taken back by an update that brings it twice.
    """
    if not is_too_large(row):
        return checked
    # A deletion is delivered all the same, without what no sink could carry.
    return CheckedRow(checked.image._replace(device=None, raw_payload=None), TOO_LARGE)


def _take_back(change: _Change) -> tuple[Effect, ...]:
    """What an update's `before` had added; nothing when it was never valid.

    Its time was judged by the message that brought it. By this one's it may lie ahead again, once a broker's clock was
    set back; what was refused and yet is valid as a `before` the ranking remembers.
    """
    if change.before is None:
        return ()
    row = check_row(change.before, ANY_TIME_US, flat=False)
    if change.is_large:
        row = _with_size(row, change.before)
    return () if row.refusal else (Effect(row.image, is_version=False, effect=-1),)


def _check_envelope(change: _Change) -> Refusal | None:
    code = DeadLetterCode.E_ENVELOPE
    if not change.flat:
        if change.has_odd_names:
            return Refusal(code, "a name of the envelope is in the wrong case")
        if change.op == TRUNCATE:
            return Refusal(code, "op t: the table was truncated")
        if change.op not in _OPS:
            return Refusal(code, "op is missing or unknown")
        if change.place.version is None or change.place.version <= 0:
            return Refusal(code, "source.lsn is missing")
        if _changes_id(change):
            return Refusal(code, "an update changed the id: the event lives on under the former one")
    return Refusal(code, "no row") if change.own is None else None


def _changes_id(change: _Change) -> bool:
    """Whether an update made another event of a row: sinks know events by their id, and would keep the former one."""
    own, before = change.own, change.before
    if change.op != "u" or own is None or before is None or own.get("id") == before.get("id"):
        return False
    return check_id(own) is None and check_id(before) is None


def _may_return(change: _Change, row: CheckedRow) -> bool:
    """Whether a refused row is valid once a later message has it as its `before`, though it never counted."""
    if row.refusal is None:
        return _changes_id(change)
    return row.refusal.code is DeadLetterCode.E_TS_FUTURE


def _as_object(value: Json) -> JsonObject | None:
    return value if isinstance(value, dict) else None


def _as_long(value: Json) -> int | None:
    return value if type(value) is int else 0 if value is MINUS_ZERO else None


def _parse_long(digits: str | None) -> int | None:
    value = None if digits is None else int(digits)
    return value if value is not None and value <= _MAX_LONG else None
