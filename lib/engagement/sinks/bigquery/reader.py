"""Questions to the warehouse that people ask most, as typed rows: for notebooks and programs."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from engagement.sinks.bigquery.client import WarehouseOptions
from engagement.sinks.bigquery.rest import Parameter, Rest


@dataclass(frozen=True)
class DayStats:
    """What happened on one UTC day; counts of events but for `contents`."""

    event_date: date
    events: int
    play: int
    pause: int
    finish: int
    click: int
    contents: int
    engagement_seconds: Decimal
    score: float
    """Points."""


@dataclass(frozen=True)
class RankedContent:
    """One content of a ranking."""

    content_id: str
    content_title: str | None
    content_type: str | None
    events: int
    engagement_seconds: Decimal
    score: float
    """Points."""


class WarehouseReader:
    """Reads the views; connects at the first question. Every method raises TransientSinkError, PermanentSinkError."""

    def __init__(
        self,
        options: WarehouseOptions,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._rest = Rest(options)
        self._clock = clock

    def stats(self, start: date, end: date) -> list[DayStats]:
        """Every UTC day of [start, end) that has events, oldest first."""
        parameters = [Parameter("start_date", "DATE", start), Parameter("end_date", "DATE", end)]
        return [DayStats(**dict(row)) for row in self._rest.run("stats", parameters).rows]

    def top(self, hours: float, limit: int = 10) -> list[RankedContent]:
        """The contents with the highest score among the events of the last hours, best first; ties by content_id."""
        since = self._clock() - timedelta(hours=hours)
        parameters = [Parameter("since", "TIMESTAMP", since), Parameter("limit", "INT64", limit)]
        return [RankedContent(**dict(row)) for row in self._rest.run("top_content", parameters).rows]

    def close(self) -> None:
        """Let go of the connection."""
        self._rest.close()
