"""The shapes of the API's JSON answers; what OpenAPI shows and tests assert. No logic beyond turning times into UTC."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from engagement.monitoring.health import ComponentHealth, HealthStatus
from engagement.monitoring.status import QueryStatus, to_utc


class RankedContent(BaseModel):
    """One row of the ranking; texts are as received and may hold anything, so pages must treat them as text."""

    model_config = ConfigDict(from_attributes=True)

    rank: int
    content_id: str
    score: float
    """Points in the sliding window."""
    title: str | None
    content_type: str | None


class TopContent(BaseModel):
    """The ranking at `generated_at`, best first, at most `limit` rows."""

    generated_at: datetime
    window_minutes: int
    """Length of the sliding window."""
    limit: int
    count: int
    items: list[RankedContent]


class ContentStats(BaseModel):
    """What a content has gathered in the sliding window [window_start, window_end)."""

    model_config = ConfigDict(from_attributes=True)

    content_id: str
    events: int
    play: int
    pause: int
    finish: int
    click: int
    engagement_seconds: float
    avg_engagement_pct: float | None
    """Mean of the events that have a percentage; None when none has."""
    unique_users: int
    """Approximate."""
    score: float
    last_event_ts: datetime | None
    window_start: datetime
    window_end: datetime


class ContentEvent(BaseModel):
    """One of a content's newest row versions; who it was is left out, and texts are as received."""

    event_id: int
    version: int | None = None
    op: str | None = None
    event_type: str | None = None
    event_ts: datetime | None = None
    duration_ms: int | None = None
    engagement_seconds: float | None = None
    engagement_pct: float | None = None
    device: str | None = None


class ContentEvents(BaseModel):
    """A content's newest events, newest first; empty when none came within the last hour."""

    content_id: str
    count: int
    items: list[ContentEvent]


class HealthComponent(BaseModel):
    """One part of the system; `embedded`: started by this project, not yours."""

    status: HealthStatus
    reason: str
    critical: bool
    embedded: bool
    since: datetime
    checked_at: datetime | None
    latency_ms: float | None
    details: dict[str, str | int | float | bool | None]

    @classmethod
    def of(cls, component: ComponentHealth, *, embedded: bool) -> "HealthComponent":
        """Show a component's health."""
        reading, checked = component.reading, component.checked_at
        return cls(
            status=reading.status,
            reason=reading.reason,
            critical=reading.critical,
            embedded=embedded,
            since=to_utc(component.since),
            checked_at=None if checked is None else to_utc(checked),
            latency_ms=component.latency_ms,
            details=dict(reading.details),
        )


class Health(BaseModel):
    """The whole and its components; the whole is never unknown."""

    status: HealthStatus
    checked_at: datetime
    components: dict[str, HealthComponent]


class LiveQuery(BaseModel):
    """A streaming query as the page shows it; figures are None when it has fallen silent."""

    sink: str
    status: HealthStatus
    state: str
    promise_seconds: float | None
    """Commit to visible, for 99 % of events."""
    p50_seconds: float | None
    p99_seconds: float | None
    """Of the newest minute."""
    input_rows_per_second: float | None
    lag_rows: int | None
    lag_seconds: float | None
    delivered: int
    dead_letters: dict[str, int]


class Live(BaseModel):
    """One message of /live: all that the page shows; `top` is None while the ranking cannot be read."""

    generated_at: datetime
    health: Health
    queries: list[LiveQuery]
    top: TopContent | None


class Metrics(BaseModel):
    """Status of every query as it wrote it, and the same metrics as /metrics/prometheus."""

    generated_at: datetime
    queries: dict[str, QueryStatus]
    metrics: dict[str, Any]
