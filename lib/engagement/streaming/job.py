"""Runs the queries side by side until told to stop, and keeps contents and status fresh meanwhile."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from redis import Redis

from engagement.delivery.content import ContentHandle
from engagement.delivery.queries import SinkQuery
from engagement.errors import TransientError
from engagement.monitoring.board import StatusBoard
from engagement.sources.kafka import TopicPositions

log = logging.getLogger(__name__)

_BEAT_SECONDS = 0.5
_LAG_SECONDS = 2.0


@dataclass(frozen=True)
class RunningQuery:
    """A query with what is kept about it."""

    query: SinkQuery
    content: ContentHandle
    board: StatusBoard
    content_changed: Callable[[], None]
    """Called after the catalogue has been read again."""


class StreamingJob:
    """Runs the queries; opens nothing before `run`."""

    def __init__(
        self,
        queries: Sequence[RunningQuery],
        positions: TopicPositions,
        status_client: Redis,
        content_refresh_seconds: float,
        stop: threading.Event,
    ) -> None:
        self._queries = queries
        self._positions = positions
        self._status_client = status_client
        self._content_refresh_seconds = content_refresh_seconds
        self._stop = stop

    def run(self) -> None:
        """Block until the end. Raises: EngagementError, the failure that ended it."""
        threads = [threading.Thread(target=each.query.run, name=f"query-{each.query.name}") for each in self._queries]
        helpers = [
            threading.Thread(target=self._every, args=(seconds, body), name=name, daemon=True)
            for name, seconds, body in (
                ("contents", self._content_refresh_seconds, self._refresh_content),
                ("lag", _LAG_SECONDS, self._record_lag),
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
        if failures:
            raise failures[0]

    def _watch(self, threads: Sequence[threading.Thread]) -> None:
        while any(thread.is_alive() for thread in threads):
            self._beat()
            if any(each.query.failure for each in self._queries):
                self._stop.set()
            threads[0].join(_BEAT_SECONDS)

    def _beat(self, *, force: bool = False) -> None:
        for each in self._queries:
            each.board.flush(self._status_client, force=force)

    def _every(self, seconds: float, body: Callable[[RunningQuery], None]) -> None:
        while not self._stop.wait(seconds):
            for each in self._queries:
                try:
                    body(each)
                except TransientError as error:
                    # The query's own state says what is away; this only waits for its next turn.
                    log.debug("%s: %s", each.query.name, error)

    def _refresh_content(self, each: RunningQuery) -> None:
        each.content.refresh()
        each.board.record_content_refresh()
        each.content_changed()

    def _record_lag(self, each: RunningQuery) -> None:
        taken, bounds = each.query.taken, self._positions.bounds()
        each.board.record_lag({p: end - taken.get(p, first) for p, (first, end) in bounds.items()})
