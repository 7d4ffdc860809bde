"""When rows are due: turns a plan, the clocks and the wish to stop into lists of insertion times. No I/O."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import islice
from random import Random

from engagement.generator.pace import STANDSTILL_SECONDS, DayLimit, Pace
from engagement.generator.plan import ROWS_PER_COMMIT, Plan, historical_times
from engagement.generator.store import Stop

LOG = logging.getLogger(__name__)
_WAIT_FOR_DAY_SECONDS = 1.0


@dataclass(frozen=True)
class Clock:
    """The two clocks of a run: `wall` in epoch seconds for event times, `monotonic` for pace and length."""

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


class StopAt:
    """Stops when asked to or when `deadline` (of the monotonic clock; None: never) has come; implements Stop."""

    def __init__(self, stop: Stop, monotonic: Callable[[], float], deadline: float | None) -> None:
        self._stop = stop
        self._monotonic = monotonic
        self._deadline = deadline

    def is_set(self) -> bool:
        """Tell whether to end."""
        return self._stop.is_set() or (self._deadline is not None and self._monotonic() >= self._deadline)

    def wait(self, timeout: float) -> bool:
        """Wait so many seconds, less when it is time to end; tell whether to end."""
        left = timeout if self._deadline is None else min(timeout, self._deadline - self._monotonic())
        self._stop.wait(max(0.0, left))
        return self.is_set()


class Schedule:
    """Yields the insertion times of the rows that are due, list by list; each list is one transaction."""

    def __init__(self, plan: Plan, clock: Clock, count_day: Callable[[date], int]) -> None:
        self._plan = plan
        self._clock = clock
        today = self._today()
        # Rows of earlier runs count too; without a limit nobody needs to count them.
        counted = plan.day_limit > 0 and plan.mode != "historical"
        self._limit = DayLimit(plan.day_limit if counted else 0, today, count_day(today) if counted else 0)

    def due(self, stop: Stop) -> Iterator[list[float]]:
        """Yield until the plan is done or `stop` is set; the caller commits each list before it asks for the next."""
        times = self._times()
        begun = self._clock.monotonic()
        pace = self._pace()
        while not stop.is_set():
            allowed = self._limit.left(self._today())
            if allowed == 0:
                if not self._waits_for_tomorrow(stop):
                    return
                pace = self._pace()
                continue
            due = pace.due(self._clock.monotonic()) if pace else ROWS_PER_COMMIT
            rows = min(due, ROWS_PER_COMMIT, *([] if allowed is None else [allowed]))
            batch = list(islice(times, rows))
            if batch:
                self._limit = self._limit.after(len(batch), self._today())
                yield batch
            elif rows:
                return
            if pace:
                pace = pace.after(len(batch), self._clock.monotonic())
                # A tick may bring more than one commit takes: the next tick is waited for when all of it is written.
                if due <= ROWS_PER_COMMIT:
                    self._wait_for_tick(begun, stop)

    def _pace(self) -> Pace | None:
        """Nothing is due yet; None for as fast as possible. The wait for a tick is no standstill, however long."""
        if not self._plan.rate:
            return None
        forgiven = self._plan.interval_seconds + STANDSTILL_SECONDS
        return Pace(self._plan.rate, self._clock.monotonic(), forgive_seconds=forgiven)

    def _times(self) -> Iterator[float]:
        plan = self._plan
        if plan.rows is None:
            return self._now_and_now()
        if plan.mode == "batch":
            return islice(self._now_and_now(), plan.rows)
        return historical_times(plan.rows, plan.historical_days, self._clock.wall(), Random(plan.seed))  # noqa: S311

    def _now_and_now(self) -> Iterator[float]:
        while True:
            yield self._clock.wall()

    def _today(self) -> date:
        return datetime.fromtimestamp(self._clock.wall(), UTC).date()

    def _wait_for_tick(self, begun: float, stop: Stop) -> None:
        """Wait for the next multiple of the interval since the beginning, so that lateness does not add up."""
        interval = self._plan.interval_seconds
        stop.wait(interval - (self._clock.monotonic() - begun) % interval)

    def _waits_for_tomorrow(self, stop: Stop) -> bool:
        """Wait until another UTC day has begun; False when this run does not wait."""
        today = self._today()
        LOG.warning("MAX_EVENTS_PER_DAY (%d) is reached for %s (UTC)", self._plan.day_limit, today)
        if self._plan.mode != "continuous":
            return False
        while not stop.is_set() and self._today() == today:
            stop.wait(_WAIT_FOR_DAY_SECONDS)
        return True
