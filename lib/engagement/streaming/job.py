"""Runs the queries side by side until told to stop, and keeps contents and status fresh meanwhile."""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pyspark.sql import SparkSession
from redis import Redis

from engagement.delivery.content import ContentHandle
from engagement.delivery.queries import SinkQuery
from engagement.errors import TransientError
from engagement.monitoring.board import StatusBoard
from engagement.monitoring.catalogue import PROCESS_MEMORY
from engagement.monitoring.lag import LagClock
from engagement.monitoring.measures import Measures
from engagement.monitoring.memory import tree_rss_bytes
from engagement.sources.kafka import TopicPositions

log = logging.getLogger(__name__)

BEAT_SECONDS = 0.5
_HEAD_START_SECONDS = 15.0
_LAG_SECONDS = 2.0
_MEMORY_SECONDS = 5.0
_TIDY_SECONDS = 600.0
PROCESS = "stream"
"""This process's name among those that measure."""


def nothing_more(_measures: Measures) -> None:
    """Measure nothing."""


@dataclass(frozen=True)
class RunningQuery:
    """A query with what is kept about it."""

    query: SinkQuery
    content: ContentHandle
    board: StatusBoard
    session: SparkSession
    """The session it runs in: listeners belong to one."""
    content_changed: Callable[[], None]
    """Called after the catalogue has been read again."""
    measure: Callable[[Measures], None] = nothing_more
    """Called twice a second: what the sink has to tell beside what every query reports."""
    leads: bool = False
    """Whether the others begin after it: their beginnings, all at once, would hold it up on a small machine."""


@dataclass(frozen=True)
class StatusWriter:
    """Where the job's own measurements go."""

    client: Redis
    measures: Measures


class StreamingJob:
    """Runs the queries; opens nothing before `run`."""

    def __init__(
        self,
        queries: Sequence[RunningQuery],
        positions: TopicPositions,
        status: StatusWriter,
        content_refresh_seconds: float,
        stop: threading.Event,
    ) -> None:
        self._queries = queries
        self._positions = positions
        self._lag = LagClock()
        self._status = status
        self._content_refresh_seconds = content_refresh_seconds
        self._stop = stop
        self.head_start_seconds = _HEAD_START_SECONDS
        """The longest that queries wait for one that leads."""
        self.tidy: Callable[[], None] = lambda: None
        """Called every ten minutes: lets go of what would pile up over weeks."""
        self.measuring = threading.Event()
        """Cleared only by the benchmark that asks what measuring costs."""
        self.measuring.set()

    def run(self) -> None:
        """Block until the end. Raises: EngagementError, the failure that ended it."""
        threads = [
            threading.Thread(target=self._run_in_turn, args=(each,), name=f"query-{each.query.name}")
            for each in self._queries
        ]
        helpers = [
            threading.Thread(target=self._every, args=(seconds, body), name=name, daemon=True)
            for name, seconds, body in (
                ("contents", self._content_refresh_seconds, self._refresh_contents),
                ("lag", _LAG_SECONDS, self._record_lag),
                ("memory", _MEMORY_SECONDS, self._record_memory),
                ("tidy", _TIDY_SECONDS, self.tidy),
            )
        ]
        for thread in [*threads, *helpers]:
            thread.start()
        try:
            self._watch(threads)
        finally:
            self._stop.set()
            for thread in [*threads, *helpers]:
                thread.join()
            self._beat(force=True)
            self._positions.close()
        failures = [each.query.failure for each in self._queries if each.query.failure]
        standstills = [each.query.standstill for each in self._queries if each.query.standstill]
        if failures or len(standstills) == len(self._queries):
            raise [*failures, *standstills][0]

    def _run_in_turn(self, each: RunningQuery) -> None:
        if each.leads:
            each.query.run()
        else:
            each.query.run(self._await_leading)

    def _await_leading(self) -> None:
        for each in self._queries:
            if each.leads:
                each.query.begun.wait(self.head_start_seconds)

    def _watch(self, threads: Sequence[threading.Thread]) -> None:
        while any(thread.is_alive() for thread in threads):
            self._beat()
            if any(each.query.failure for each in self._queries) or self._all_stand_still():
                self._stop.set()
            next((thread for thread in threads if thread.is_alive()), threads[0]).join(BEAT_SECONDS)

    def _all_stand_still(self) -> bool:
        return all(each.query.standstill for each in self._queries)

    def _beat(self, *, force: bool = False) -> None:
        if not self.measuring.is_set():
            return
        for each in self._queries:
            each.measure(self._status.measures)
            each.board.flush(self._status.client, force=force)
        self._status.measures.flush(self._status.client, force=force)

    def _every(self, seconds: float, body: Callable[[], None]) -> None:
        while not self._stop.wait(seconds):
            try:
                body()
            except TransientError as error:
                # The queries' own states say what is away; this only waits for its next turn.
                log.debug("%s", error)
            except Exception:
                # The main of this thread: a full disk, say, must not end it for good, and without a word.
                log.exception("%s failed; going on in %g s", threading.current_thread().name, seconds)

    def _refresh_contents(self) -> None:
        for each in self._queries:
            try:
                each.content.refresh()
                each.board.record_content_refresh()
                each.content_changed()
            except TransientError as error:
                log.debug("%s: %s", each.query.name, error)

    def _record_lag(self) -> None:
        if not self.measuring.is_set():
            return
        bounds, now = self._positions.bounds(), time.monotonic()
        ends = {partition: end for partition, (_, end) in bounds.items()}
        self._lag.note(ends, now)
        for each in self._queries:
            if (held := each.query.taken) is not None:
                taken = {p: held.get(p, first) for p, (first, _) in bounds.items()}
                each.board.record_lag({p: end - taken[p] for p, end in ends.items()}, self._lag.waited(taken, now))

    def _record_memory(self) -> None:
        self._status.measures.set(PROCESS_MEMORY, tree_rss_bytes(os.getpid()), process=PROCESS)
