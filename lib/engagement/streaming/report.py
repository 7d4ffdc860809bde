"""What one query tells its status board and the log. Nothing here can fail or hold up a stream."""

import logging
from collections.abc import Callable, Mapping, Sequence

from engagement.identity import BatchIdentity
from engagement.monitoring.board import BatchRecord, StatusBoard
from engagement.monitoring.status import QueryState
from engagement.sinks.base import PartitionSummary, merge_dead_letters

log = logging.getLogger(__name__)


class QueryReport:
    """Observes the engine (BatchObserver, StateObserver) and the Redis sink (Observer); `clock` is epoch seconds."""

    def __init__(self, board: StatusBoard, clock: Callable[[], float]) -> None:
        self._board = board
        self._clock = clock
        self._waiting = ""
        self._started = False
        self._context = {"query": board.sink, "sink": board.sink}

    def delivered(self, identity: BatchIdentity, summaries: Sequence[PartitionSummary], seconds: float) -> None:
        """Count a micro-batch; rejected messages are logged once per code and batch."""
        dead_letters, truncations = merge_dead_letters(summaries), sum(s.truncations for s in summaries)
        batch = BatchRecord(
            batch_id=identity.batch_id,
            read=sum(s.read for s in summaries),
            delivered=sum(s.delivered for s in summaries),
            dead_letters=dead_letters,
            tombstones=sum(s.tombstones for s in summaries),
            moves=sum(s.moves for s in summaries),
            already_delivered=sum(s.already_delivered for s in summaries),
            duration_ms=seconds * 1000,
            late=sum(s.late for s in summaries),
            repeats=sum(s.repeats for s in summaries),
            truncations=truncations,
        )
        self._board.record_batch(batch)
        self._waiting = ""
        for code, count in sorted(dead_letters.items()):
            log.warning(
                "%s: batch %s: %d message(s) rejected with %s", self._board.sink, identity, count, code,
                extra={**self._context, "batch_id": identity.batch_id},
            )  # fmt: skip
        if batch.refused:
            self.alarm(batch.refused.reason)
        if truncations:
            self.alarm(
                "engagement_events was truncated; its rows are still here: `./spark-submit.sh reconcile --repair` "
                "takes them out of the tables, and the ranking's leave with the window"
            )

    def waiting(self, reason: str) -> None:
        """Say once why nothing moves."""
        self._board.record_retry()
        self.state(QueryState.WAITING, reason)

    def state(self, state: str, reason: str = "") -> None:
        """Note a change in the query's life, and log it once."""
        if state == QueryState.STARTING:
            if self._started:
                self._board.record_retry()
            self._started = True
        self._board.set_state(state, reason)
        told = f"{state}: {reason}" if reason else state
        if told != self._waiting:
            level = logging.WARNING if reason else logging.INFO
            log.log(level, "%s: %s", self._board.sink, told, extra=self._context)
        self._waiting = told

    def visible(self, times: Sequence[Mapping[int, int]]) -> None:
        """Measure how long ago what became visible just now was committed."""
        now_ms = self._clock() * 1000
        for batch in times:
            for commit_ms, count in batch.items():
                self._board.record_freshness(max(0.0, now_ms - commit_ms) / 1000, count)

    def content_refreshed(self) -> None:
        """Note that the catalogue has been read again."""
        self._board.record_content_refresh()

    def rebuilding(self, reason: str) -> None:
        """Note that the board is being counted again."""
        log.warning("%s: counting the board again from Kafka: %s", self._board.sink, reason, extra=self._context)

    def rebuilt(self) -> None:
        """Note that it has been."""
        self._board.record_rebuild()
        log.info("%s: the board has been counted again", self._board.sink, extra=self._context)

    def alarm(self, text: str) -> None:
        """Log what a person should look at."""
        log.error("%s: %s", self._board.sink, text, extra=self._context)
