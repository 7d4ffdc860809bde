"""What other programs read: the ranking, a content's statistics and its newest events, typed."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import redis

from engagement.sinks.redis import keys
from engagement.sinks.redis.faults import translated
from engagement.sinks.redis.scripts import Call, load, run

Text = bytes | str


@dataclass(frozen=True)
class RankedContent:
    """One line of the ranking."""

    rank: int
    content_id: str
    score: float
    title: str | None
    content_type: str | None


@dataclass(frozen=True)
class ContentStats:
    """A content's totals over the window."""

    content_id: str
    events: int
    play: int
    pause: int
    finish: int
    click: int
    engagement_seconds: Decimal
    avg_engagement_pct: Decimal | None
    """0.. (not a ratio), of the events that have one; None when there is none."""
    unique_users: int
    """HyperLogLog: standard error 0.81 %, over whole minutes, so up to 50 s more than the window."""
    score: float
    last_event_ts: datetime | None
    window_start: datetime
    window_end: datetime


class EngagementReader:
    """Reads what the sink publishes; `client` may answer with bytes or text."""

    def __init__(self, client: redis.Redis, top_key: str = "top_content_last_10min") -> None:
        self._client = client
        self._top_key = top_key

    def get_top_content(self, limit: int = 10) -> list[RankedContent]:
        """Give the first contents, score descending, ties by content_id ascending. Raises: TransientSinkError."""
        if limit <= 0:
            return []
        with translated():
            flat = [_text(value) for value in run(self._client, Call(load("top"), (self._top_key,), (limit,)))]
            contents = flat[::2]
            pipeline = self._client.pipeline(transaction=False)
            for content in contents:
                pipeline.hmget(keys.content_meta(content), ["title", "content_type"])
            metas = pipeline.execute()
        lines = sorted(zip(contents, map(float, flat[1::2]), metas, strict=True), key=lambda line: (-line[1], line[0]))
        return [
            RankedContent(rank, content, score, _optional(meta[0]), _optional(meta[1]))
            for rank, (content, score, meta) in enumerate(lines, start=1)
        ]

    def get_content_stats(self, content_id: str) -> ContentStats | None:
        """Give a content's totals, None when it has no event in the window. Raises: TransientSinkError."""
        with translated():
            stored = self._client.hgetall(keys.content_stats(content_id))
        if not stored:
            return None
        fields = {_text(name): _text(value) for name, value in stored.items()}
        last, average = fields["last_event_ts"], fields["avg_engagement_pct"]
        return ContentStats(
            content_id=content_id,
            **{name: int(fields[name]) for name in ("events", "play", "pause", "finish", "click", "unique_users")},
            engagement_seconds=Decimal(fields["engagement_seconds"]),
            avg_engagement_pct=Decimal(average) if average else None,
            score=float(fields["score"]),
            last_event_ts=datetime.fromisoformat(last) if last else None,
            window_start=datetime.fromisoformat(fields["window_start"]),
            window_end=datetime.fromisoformat(fields["window_end"]),
        )

    def get_recent_events(self, content_id: str, count: int = 100) -> list[Mapping[str, str | None]]:
        """Give a content's newest events, newest first; '' in the stream is NULL. Raises: TransientSinkError."""
        if count <= 0:
            return []
        with translated():
            entries = self._client.xrevrange(keys.recent_events(content_id), count=count)
        stored = [fields or {} for _, fields in entries or []]
        return [{_text(name): _text(value) or None for name, value in fields.items()} for fields in stored]


def _text(value: Text) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _optional(value: Text | None) -> str | None:
    return (_text(value) or None) if value is not None else None
