"""What Redis must show, worked out from PostgreSQL's rows in plain Python, and how it differs from what it shows."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import cast

import psycopg2
from psycopg2.extensions import connection as Connection
from redis import Redis
from redis.exceptions import RedisError
from tests.e2e.support.processes import PATIENCE, rest_after
from tests.e2e.support.scores import UNITS_PER_POINT, percentage, units

TOP_KEY = "top_content_last_10min"
STEP_SECONDS = 10
_EVENT_TYPES = ("play", "pause", "finish", "click")
_ROWS = (
    "select e.content_id::text, e.event_type, e.event_ts, e.duration_ms, c.length_seconds "
    "from engagement_events e left join content c on c.id = e.content_id "
    "where e.content_id is not null and e.event_ts >= %s and e.event_ts < %s"
)
_SHOWN = 12
_FIGURES = 4
_LOOK_SECONDS = 0.5
_SECOND_LOOK_SECONDS = 1.2


@dataclass
class Totals:
    """One content within the window."""

    units: int = 0
    duration_ms: int = 0
    by_type: Counter[str] = field(default_factory=Counter)
    percentages: list[Decimal] = field(default_factory=list)
    last_event: datetime | None = None

    @property
    def events(self) -> int:
        """How many rows count."""
        return self.by_type.total()

    @property
    def average(self) -> Decimal | None:
        """Mean percentage of the events that have one."""
        if not self.percentages:
            return None
        mean = sum(self.percentages) / len(self.percentages)
        return Decimal(mean).quantize(Decimal("0.01"), ROUND_HALF_UP)

    def add(self, event_type: str, event_ts: datetime, duration_ms: int | None, length_seconds: int | None) -> None:
        """Count one row."""
        percent = percentage(duration_ms, length_seconds)
        self.units += units(event_type, percent)
        self.duration_ms += duration_ms or 0
        self.by_type[event_type] += 1
        if percent is not None:
            self.percentages.append(percent)
        self.last_event = max(event_ts, self.last_event or event_ts)


def reference(database: Connection, start: datetime, end: datetime) -> dict[str, Totals]:
    """content_id -> totals over the valid rows with `start` <= event_ts < `end`, as PostgreSQL holds them now."""
    with database, database.cursor() as cursor:
        cursor.execute(_ROWS, (start, end))
        rows = cursor.fetchall()
    board: dict[str, Totals] = {}
    for content_id, event_type, event_ts, duration_ms, length_seconds in rows:
        if duration_ms is None or duration_ms >= 0:
            board.setdefault(content_id, Totals()).add(event_type, event_ts, duration_ms, length_seconds)
    return board


@dataclass(frozen=True)
class Difference:
    """One content that Redis shows otherwise than the reference."""

    content_id: str
    kind: str
    """lost, doubled, phantom (not in the reference at all) or stale (as many events, other figures)."""
    detail: str

    def __str__(self) -> str:
        return f"{self.kind:8} {self.content_id}: {self.detail}"


@dataclass(frozen=True)
class Verdict:
    """One comparison; `events` are those the reference has in the window."""

    window_end: datetime
    contents: int
    events: int
    differences: tuple[Difference, ...]

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs."""
        return not self.differences

    def __str__(self) -> str:
        kinds = Counter(difference.kind for difference in self.differences)
        shown = "\n  ".join(str(found) for found in self.differences[:_SHOWN])
        return (
            f"window end {self.window_end:%H:%M:%S}, {self.contents} contents, {self.events} events expected; "
            f"{dict(kinds) or 'equal'}\n  {shown}"
        )


class Oracle:
    """Compares Redis (decoded responses) with the reference at the window of the Redis clock."""

    def __init__(self, connect: Callable[[], Connection], client: Redis, window: timedelta) -> None:
        self._connect = connect
        self._client = client
        self._window = window
        self.newest: Verdict | None = None
        """What the newest wait saw last."""

    def window_end(self) -> datetime:
        """The next full step after Redis's now."""
        seconds, _ = self._client.time()
        return datetime.fromtimestamp((int(seconds) // STEP_SECONDS + 1) * STEP_SECONDS, UTC)

    def look(self) -> Verdict | None:
        """One comparison; None when the window moved meanwhile, which makes it worthless."""
        end = self.window_end()
        with closing(self._connect()) as database:
            expected = reference(database, end - self._window, end)
        ranking = dict(cast("list[tuple[str, float]]", self._client.zrange(TOP_KEY, 0, -1, withscores=True)))
        contents = sorted(expected.keys() | ranking.keys() | self._with_stats())
        pipeline = self._client.pipeline(transaction=False)
        for content_id in contents:
            pipeline.hgetall(f"content_stats:{content_id}")
        stats: dict[str, Mapping[str, str]] = dict(zip(contents, pipeline.execute(), strict=True))
        if self.window_end() != end:
            return None
        found = [difference(c, expected.get(c), ranking.get(c), stats[c]) for c in contents]
        events = sum(totals.events for totals in expected.values())
        return Verdict(end, len(contents), events, tuple(one for one in found if one))

    def await_equality(self, limit_seconds: float, least_events: int = 1) -> float:
        """Wait until two looks in a row, a second apart, find everything equal; return the seconds to the first.

        Raises: AssertionError that lists what is lost, doubled, stale or phantom.
        """
        began, first_equal, verdict, trouble = time.monotonic(), None, None, ""
        limit_seconds *= PATIENCE
        while True:
            looked = time.monotonic()
            try:
                verdict = self.newest = self.look() or verdict
                equal = verdict is not None and verdict.is_equal and verdict.events >= least_events
                trouble = ""
            except (RedisError, psycopg2.Error) as error:
                equal, trouble = False, str(error)
            now = time.monotonic()
            if not equal:
                first_equal = None
            elif first_equal is None:
                first_equal = now
            elif now - first_equal >= _SECOND_LOOK_SECONDS:
                return first_equal - began
            if now - began > limit_seconds:
                raise AssertionError(
                    f"Redis differs from the reference after {limit_seconds:.0f} s: {trouble}{verdict}"
                )
            rest_after(looked, _LOOK_SECONDS)

    def _with_stats(self) -> set[str]:
        prefix = "content_stats:"
        return {str(key)[len(prefix) :] for key in self._client.scan_iter(f"{prefix}*", count=1000)}


def difference(
    content_id: str, want: Totals | None, score: float | None, stats: Mapping[str, str]
) -> Difference | None:
    want = want or Totals()
    events = int(stats.get("events", 0))
    wrong = _wrong_figures(want, score, stats)
    if not wrong:
        return None
    kind = "stale"
    if want.events == 0:
        kind = "phantom"
    elif events != want.events:
        kind = "lost" if events < want.events else "doubled"
    return Difference(content_id, kind, ", ".join(wrong))


def _wrong_figures(want: Totals, score: float | None, stats: Mapping[str, str]) -> Sequence[str]:
    if want.events == 0:
        gone = score is None and not stats
        return [] if gone else [f"should be gone, has score {score}, stats {dict(stats)}"]
    points = want.units / UNITS_PER_POINT
    pairs: list[tuple[str, object, object]] = [
        ("ranking score", score, points),
        ("score", float(stats.get("score", "nan")), points),
        ("events", int(stats.get("events", 0)), want.events),
        *((name, int(stats.get(name, 0)), want.by_type[name]) for name in _EVENT_TYPES),
        ("engagement_seconds", Decimal(stats.get("engagement_seconds", "0")), Decimal(want.duration_ms) / 1000),
        ("avg_engagement_pct", stats.get("avg_engagement_pct", ""), "" if want.average is None else str(want.average)),
        ("last_event_ts", _time(stats.get("last_event_ts", "")), want.last_event),
    ]
    return [f"{name} {found}, expected {expected}" for name, found, expected in pairs if found != expected][:_FIGURES]


def _time(text: str) -> datetime | None:
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None
