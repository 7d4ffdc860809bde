"""The board in Redis against an independent reference worked out by PostgreSQL from the rows themselves."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import cast

from redis import Redis

_STEP_SECONDS = 10
_UNITS_PER_POINT = 100_000


@dataclass(frozen=True)
class BoardComparison:
    """What a comparison found; `differences` names up to a handful of contents, for a person."""

    window_end: datetime
    contents: int
    events: int
    lost: int
    doubled: int
    differences: tuple[str, ...]

    @property
    def is_equal(self) -> bool:
        """Whether scores and totals agree for every content, of which there has to be one."""
        return bool(self.contents) and not self.differences

    def __str__(self) -> str:
        if not self.contents:
            return "an empty board proves nothing"
        return f"{len(self.differences)} of {self.contents} contents differ, {self.lost} lost, {self.doubled} doubled"


def window_of(redis_now: float, window: timedelta) -> tuple[datetime, datetime]:
    """The live window at a Redis time: [E - window, E), E being the next full 10 s after now.

    >>> window_of(1_000_003.2, timedelta(minutes=10))[1].timestamp()
    1000010.0
    """
    end = datetime.fromtimestamp((int(redis_now) // _STEP_SECONDS + 1) * _STEP_SECONDS, UTC)
    return end - window, end


def redis_seconds(client: Redis) -> float:
    """The Redis server's clock, which rules the window."""
    seconds, microseconds = client.time()
    return float(seconds) + float(microseconds) / 1e6


def compare(expected: Mapping[str, Mapping[str, int]], client: Redis, top_key: str, end: datetime) -> BoardComparison:
    """Compare ranking and per-content totals in Redis (decoded responses) with the reference."""
    ranking = cast("list[tuple[str, float]]", client.zrange(top_key, 0, -1, withscores=True))
    scores = dict(ranking)
    contents = sorted(expected.keys() | scores.keys())
    pipeline = client.pipeline(transaction=False)
    for content_id in contents:
        pipeline.hgetall(f"content_stats:{content_id}")
    stats = dict(zip(contents, pipeline.execute(), strict=True))
    lost = doubled = 0
    differences: list[str] = []
    for content_id in contents:
        want = expected.get(content_id, {})
        found = int(stats[content_id].get("events", 0))
        lost += max(0, want.get("events", 0) - found)
        doubled += max(0, found - want.get("events", 0))
        differences += _differences(content_id, want, scores.get(content_id), stats[content_id])
    events = sum(row["events"] for row in expected.values())
    return BoardComparison(end, len(contents), events, lost, doubled, tuple(differences))


def _differences(content_id: str, want: Mapping[str, int], score: float | None, stats: Mapping[str, str]) -> list[str]:
    found = [] if score == (want["units"] / _UNITS_PER_POINT if want else None) else [f"score {score}"]
    for name in ("events", "play", "pause", "finish", "click"):
        if int(stats.get(name, 0)) != want.get(name, 0):
            found.append(f"{name} {stats.get(name)}")
    if round(float(stats.get("engagement_seconds", 0)) * 1000) != want.get("duration_ms", 0):
        found.append(f"engagement_seconds {stats.get('engagement_seconds')}")
    return [f"{content_id}: {', '.join(found)}, expected {dict(want)}"] if found else []
