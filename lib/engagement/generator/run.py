"""The generator itself: asks the schedule what is due, the factory for rows, the store to commit them."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from random import SystemRandom

from engagement.generator.events import EventFactory
from engagement.generator.plan import Plan, Request, make_plan
from engagement.generator.postgres import PostgresStore
from engagement.generator.recent import Changes
from engagement.generator.schedule import Clock, Schedule, StopAt
from engagement.generator.store import EventStore, Stop
from engagement.settings import Settings

LOG = logging.getLogger(__name__)
REPORT_SECONDS = 5.0


@dataclass(frozen=True)
class Progress:
    """What a run has committed so far; `seconds` since it began to write events."""

    seed: int
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    seconds: float = 0.0
    interruptions: int = 0

    @property
    def rows_per_second(self) -> float:
        """Inserted rows per second, averaged over the whole run."""
        return self.inserted / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        text = f"{self.inserted:,} inserted, {self.updated:,} updated, {self.deleted:,} deleted"
        return f"{text} in {self.seconds:.1f} s ({self.rows_per_second:,.0f} rows/s), seed {self.seed}"


def log_progress(progress: Progress) -> None:
    """Log the progress of a run."""
    LOG.info("%s", progress)


class Generator:
    """Writes test data as a request says; `run` may be called once, from any thread or process.

    Counts are of committed rows. The connection is opened by `run`, and made again when PostgreSQL restarts.
    """

    def __init__(
        self,
        settings: Settings,
        request: Request,
        report: Callable[[Progress], None] = log_progress,
        store: EventStore | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.plan: Plan = make_plan(request, settings.generation, SystemRandom())
        self._store = store or PostgresStore(settings.postgres.database_url.get_secret_value())
        self._clock = clock or Clock()
        self._report = report
        self._factory = EventFactory(self.plan.seed, shift_by_rows=self.plan.mode == "batch")
        self._changes = Changes(self._factory, self.plan.updates_pct, self.plan.deletes_pct)
        self._progress = Progress(self.plan.seed)

    def run(self, stop: Stop) -> Progress:
        """Write until the plan is done or `stop` is set; EngagementError when PostgreSQL refuses."""
        self._store.open()
        try:
            self._store.add_content(self._factory.catalogue)
            self._write_all(stop)
        finally:
            self._store.close()
        return self._progress

    def _write_all(self, stop: Stop) -> None:
        schedule = Schedule(self.plan, self._clock, self._store.count_day)
        begun = reported = self._clock.monotonic()
        length = self.plan.duration_seconds
        until = StopAt(stop, self._clock.monotonic, None if length is None else begun + length)
        for times in chain(schedule.due(until), self._leftovers(until)):
            self._commit(times, until)
            now = self._clock.monotonic()
            self._progress = replace(self._progress, seconds=now - begun, interruptions=self._store.interruptions)
            if now - reported >= REPORT_SECONDS:
                reported = now
                self._report(self._progress)

    def _leftovers(self, stop: Stop) -> Iterator[list[float]]:
        """Yield transactions without rows until a run that has an end has made its share of updates and deletes."""
        while self.plan.rows is not None and self._changes.left and not stop.is_set():
            yield []

    def _commit(self, times: Sequence[float], stop: Stop) -> None:
        batch = self._changes.batch(self._factory.events(times))
        written = self._store.write(batch, stop)
        if written is None:
            return
        self._changes.committed(batch, written)
        done = self._progress
        self._progress = replace(
            done,
            inserted=done.inserted + len(written.ids),
            updated=done.updated + written.updated,
            deleted=done.deleted + written.deleted,
        )
