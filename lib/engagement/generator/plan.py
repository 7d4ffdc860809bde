"""What a run of the generator is to do. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal

from engagement.settings import GenerationSettings

Mode = Literal["continuous", "batch", "historical"]
MODES: tuple[Mode, ...] = ("continuous", "batch", "historical")

HISTORICAL_ROWS_PER_DAY = 10_000
"""Rows of a day in historical mode when nobody says how many: enough for reports, done in seconds."""

HISTORICAL_DAYS_AT_MOST = 9_000
"""So many were over between 2000 and August 2024: an event before 2000 is a dead letter."""

ROWS_PER_COMMIT = 5_000
"""Largest transaction: beyond it rows per second grow no more, while a reader waits longer for the commit."""

_DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Request:
    """What the caller asks for; None and 0 leave it to the settings. Percentages are per 100 inserted rows."""

    mode: Mode = "continuous"
    batch_size: int | None = None
    historical_days: int = 7
    rate: float | None = None
    seed: int | None = None
    updates_pct: float = 0.0
    deletes_pct: float = 0.0
    duration_seconds: float | None = None


@dataclass(frozen=True)
class Plan:
    """A run in full: `rows` None is without end, `rate` (rows/s) None as fast as possible, `day_limit` 0 none."""

    mode: Mode
    rows: int | None
    rate: float | None
    interval_seconds: float
    historical_days: int
    day_limit: int
    seed: int
    updates_pct: float
    deletes_pct: float
    duration_seconds: float | None


def make_plan(request: Request, settings: GenerationSettings, chance: Random) -> Plan:
    """Fill in what the request leaves open; the seed, when none is given, comes from `chance`."""
    size = request.batch_size or settings.events_per_batch
    return Plan(
        mode=request.mode,
        rows=_rows(request, size, settings.max_events_per_day),
        rate=request.rate or (size / settings.interval_seconds if request.mode == "continuous" else None),
        interval_seconds=settings.interval_seconds,
        historical_days=request.historical_days,
        day_limit=settings.max_events_per_day,
        seed=chance.getrandbits(32) if request.seed is None else request.seed,
        updates_pct=request.updates_pct,
        deletes_pct=request.deletes_pct,
        duration_seconds=request.duration_seconds,
    )


def _rows(request: Request, size: int, day_limit: int) -> int | None:
    if request.mode == "continuous":
        return None
    if request.mode == "batch":
        return size
    rows = request.batch_size or HISTORICAL_ROWS_PER_DAY * request.historical_days
    # Spread evenly, so a limit per day is a limit on the whole.
    return min(rows, day_limit * request.historical_days) if day_limit else rows


def historical_times(rows: int, days: int, now: float, chance: Random) -> Iterator[float]:
    """Yield `rows` growing times (epoch seconds) of the `days` before `now`, one somewhere in each even slot."""
    slot = days * _DAY_SECONDS / rows
    start = now - days * _DAY_SECONDS
    for number in range(rows):
        yield start + (number + chance.random()) * slot
