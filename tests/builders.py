"""Messages with defaults, so that a test names only what matters to it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

CONTENT_ID = "6f1f2a44-0c3e-4b6e-9d2f-0a4f5b1c2d3e"
NEWSLETTER_ID = "0d9c7a52-6f0e-4c39-8f5e-2b7f4f0f9a11"
BAD_LENGTH_ID = "c2a5e5a0-1111-4222-8333-444455556666"
USER_ID = "9b2d7c10-8f4a-4e0b-a1c3-d5e6f7a8b9c0"
KAFKA_TS = datetime(2026, 11, 23, 15, 0, 0, tzinfo=UTC)
EVENT_TS = "2026-11-23T14:59:58.123456Z"
LSN = 33_749_928

CONTENT_ROWS: tuple[dict[str, object], ...] = (
    {"content_id": CONTENT_ID, "slug": "a", "title": "A", "content_type": "podcast", "length_seconds": 60},
    {"content_id": NEWSLETTER_ID, "slug": "b", "title": "B", "content_type": "newsletter", "length_seconds": None},
    {"content_id": BAD_LENGTH_ID, "slug": "c", "title": "C", "content_type": "video", "length_seconds": 0},
)


@dataclass(frozen=True)
class Message:
    """A Kafka message; a None value is a tombstone."""

    value: bytes | None
    offset: int = 0
    partition: int = 0
    kafka_ts: datetime = KAFKA_TS
    headers: tuple[str, ...] = ()
    """Names only: of other headers the transform looks at nothing else."""
    replay_of: int | None = None
    """Offset of the refused message that this one stands for."""


def row(**columns: object) -> dict[str, object]:
    """A row of engagement_events as Debezium writes it."""
    defaults: dict[str, object] = {
        "id": 1,
        "content_id": CONTENT_ID,
        "user_id": USER_ID,
        "event_type": "play",
        "event_ts": EVENT_TS,
        "duration_ms": 30_000,
        "device": "ios",
        "raw_payload": '{"a": 1}',
    }
    return {**defaults, **columns}


def envelope(
    op: str = "c",
    after: Mapping[str, object] | None = None,
    before: Mapping[str, object] | None = None,
    lsn: int = LSN,
) -> dict[str, object]:
    """A Debezium envelope without schemas, its members in Debezium's order."""
    source = {
        "version": "3.6.3.Final", "connector": "postgresql", "name": "engagement", "ts_ms": 1_795_446_000_000,
        "snapshot": "false", "db": "engagement", "sequence": f'["{lsn - 8}","{lsn}"]',
        "ts_us": 1_795_446_000_000_387, "ts_ns": 1_795_446_000_000_387_000,
        "schema": "public", "table": "engagement_events", "txId": 771, "lsn": lsn, "xmin": None,
        "origin": None, "origin_lsn": None,
    }  # fmt: skip
    times = {"ts_ms": 1_795_446_000_021, "ts_us": 1_795_446_000_021_590, "ts_ns": 1_795_446_000_021_590_117}
    return {"before": before, "after": after, "source": source, "transaction": None, "op": op, **times}


def message(document: object, offset: int = 0, headers: Sequence[str] = (), **position: object) -> Message:
    """A message whose value is the document as JSON text."""
    value = json.dumps(document, separators=(",", ":")).encode()
    return Message(value, offset=offset, headers=tuple(headers), **position)  # type: ignore[arg-type]


def created(**columns: object) -> Message:
    """An insert."""
    return message(envelope(after=row(**columns)))


def updated(before: Mapping[str, object] | None = None, **columns: object) -> Message:
    """An update; `before` is the default row unless given."""
    return message(envelope("u", after=row(**columns), before=row() if before is None else before))


MIXED = (
    created(),
    updated(duration_ms=-1),
    Message(None),
    Message(b"\xff"),
    message(envelope("d", before=row()), headers=("__debezium.newkey",)),
    updated(duration_ms=5),
    message(envelope("d", before=row())),
)
"""Every outcome: two changes with a refused one between, a tombstone, bytes that are no text, a move, a deletion."""


def in_order(messages: Iterable[Message]) -> list[Message]:
    """The same messages at offsets that count up from 0."""
    return [replace(m, offset=at) for at, m in enumerate(messages)]
