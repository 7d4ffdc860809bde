"""The streaming job's side of the status: counts in memory, written to Redis at most once a second.

Guarantee: nothing here can fail or hold up a stream. Recording takes a lock for microseconds and never raises for what
it is given; flushing is one round trip outside the lock, a failed one is counted and the next carries everything again.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from redis import Redis
from redis.exceptions import RedisError

from engagement.logs import redact
from engagement.monitoring.freshness import Freshness
from engagement.monitoring.status import (
    STATUS_KEY,
    STATUS_TTL_SECONDS,
    QueryState,
    QueryStatus,
    RefusedBatch,
    RowTotals,
    to_utc,
)

FLUSH_INTERVAL_SECONDS = 1.0
RATE_WINDOW_SECONDS = 10.0
REASON_LENGTH = 600
REFUSED_LEAST_ROWS = 100
REFUSED_PCT = 20
"""More dead letters than this, in a micro-batch of so many messages at least, raise an alarm (contract section 9)."""
REFUSED_SECONDS = 60.0
"""So long the status goes on telling of such a micro-batch."""


@dataclass(frozen=True)
class BatchRecord:
    """One delivered micro-batch: messages by outcome (they add up to `read`), and counts beside that law."""

    batch_id: int
    read: int
    delivered: int = 0
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    tombstones: int = 0
    moves: int = 0
    already_delivered: int = 0
    duration_ms: float | None = None
    late: int = 0
    repeats: int = 0
    truncations: int = 0

    @property
    def refused(self) -> RefusedBatch | None:
        """What to tell of it, if more of it was refused than can be chance."""
        dead = sum(self.dead_letters.values())
        if self.read < REFUSED_LEAST_ROWS or dead * 100 <= REFUSED_PCT * self.read:
            return None
        return RefusedBatch(read=self.read, dead_letters=dict(self.dead_letters))


class StatusBoard:
    """Thread-safe status of one query; `clock` gives epoch seconds, `monotonic` seconds that nobody sets."""

    def __init__(
        self,
        sink: str,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        now = clock()
        self._sink, self._clock, self._monotonic = sink, clock, monotonic
        self._lock = threading.Lock()
        self._state, self._reason, self._state_since = QueryState.STARTING, "", now
        self._started_at = self._progress_at = now
        self._batch_id: int | None = None
        self._batch_duration_ms: float | None = None
        self._last_batch_at: float | None = None
        self._rows = RowTotals()
        self._late = self._repeats = self._truncations = self._rebuilds = self._retries = self._dropped = 0
        self._lag: dict[int, int] = {}
        self._lag_seconds: dict[int, float] = {}
        self._phases_ms: dict[str, float] = {}
        self._freshness = Freshness()
        self._content_refreshed_at: float | None = None
        # What is only counted together is placed in monotonic time, or a clock set back would count an hour as now.
        self._born = monotonic()
        self._reads: deque[tuple[float, int]] = deque()
        self._refused: tuple[float, RefusedBatch] | None = None
        self._flushed_at = -math.inf
        self.failed_flushes = 0

    @property
    def sink(self) -> str:
        """The sink this board speaks for, the field in the hash."""
        return self._sink

    def record_batch(self, batch: BatchRecord) -> None:
        """Count a micro-batch that its sink holds, and mark the query as running."""
        with self._recording() as now:
            # All that can refuse a wrong type comes first, so that a record counts whole or not at all.
            batch_id, duration_ms = int(batch.batch_id), _finite(batch.duration_ms)
            late, repeats = self._late + int(batch.late), self._repeats + int(batch.repeats)
            truncations, refused = self._truncations + int(batch.truncations), batch.refused
            self._rows = _add(self._rows, batch)
            self._late, self._repeats, self._truncations = late, repeats, truncations
            self._batch_id, self._batch_duration_ms, self._last_batch_at = batch_id, duration_ms, now
            self._progress_at = now
            self._reads.append((self._monotonic(), batch.read))
            if refused is not None:
                self._refused = self._monotonic(), refused
            self._enter(QueryState.RUNNING, "", now)

    def record_freshness(self, seconds: float, count: int = 1) -> None:
        """Count `count` rows that became visible `seconds` after their commit."""
        with self._recording():
            if count > 0 and math.isfinite(seconds):
                self._freshness.add(seconds, int(count), self._monotonic())

    def record_lag(
        self, rows_by_partition: Mapping[int, int], seconds_by_partition: Mapping[int, float] | None = None
    ) -> None:
        """Replace what waits in Kafka, by partition: how many rows, and for how long the oldest of them."""
        with self._recording():
            rows = {int(partition): max(0, int(count)) for partition, count in rows_by_partition.items()}
            waits = {int(partition): round(max(0.0, s), 3) for partition, s in (seconds_by_partition or {}).items()}
            self._lag, self._lag_seconds = rows, waits

    def record_phases(self, phases_ms: Mapping[str, float]) -> None:
        """Replace Spark's account of a micro-batch: milliseconds by phase."""
        with self._recording():
            self._phases_ms = {str(phase): float(ms) for phase, ms in phases_ms.items() if math.isfinite(ms)}

    def record_retry(self) -> None:
        """Count a micro-batch that is tried again, or a query that is started again."""
        with self._recording():
            self._retries += 1

    def record_content_refresh(self) -> None:
        """Say that the content cache was read again just now."""
        with self._recording() as now:
            self._content_refreshed_at = now

    def record_rebuild(self) -> None:
        """Count a rebuild of what the sink holds."""
        with self._recording():
            self._rebuilds += 1

    def set_state(self, state: QueryState | str, reason: str = "") -> None:
        """Change what the query is doing; the reason is one sentence without data or secrets."""
        with self._recording() as now:
            self._enter(QueryState(state), _one_line(reason), now)

    def snapshot(self) -> QueryStatus:
        """Return the status as it is now."""
        with self._lock:
            return self._snapshot(self._clock())

    def flush(self, client: Redis, *, force: bool = False) -> bool:
        """Write the status if the last writing is a second old (or `force`); False if it was due and failed.

        The client must have socket timeouts: they are the longest this call can take.
        """
        with self._lock:
            now = self._clock()
            # A clock set back must not silence the board, hence both bounds.
            if not force and 0 <= now - self._flushed_at < FLUSH_INTERVAL_SECONDS:
                return True
            self._flushed_at = now
            text = self._snapshot(now).model_dump_json()
        try:
            with client.pipeline(transaction=False) as pipeline:
                pipeline.hset(STATUS_KEY, self._sink, text)
                pipeline.expire(STATUS_KEY, STATUS_TTL_SECONDS)
                pipeline.execute()
        except (RedisError, OSError):
            self.failed_flushes += 1
            return False
        return True

    @contextmanager
    def _recording(self) -> Iterator[float]:
        """Hold the lock, and turn a caller's wrong types into a count instead of an error."""
        with self._lock:
            try:
                yield self._clock()
            except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError):
                self._dropped += 1

    def _enter(self, state: QueryState, reason: str, now: float) -> None:
        if (state, reason) != (self._state, self._reason):
            self._state, self._reason, self._state_since = state, reason, now
            self._progress_at = now

    def _rate(self, now: float) -> float:
        while self._reads and self._reads[0][0] <= now - RATE_WINDOW_SECONDS:
            self._reads.popleft()
        # A job younger than the window is measured over its own life, at least one second of it.
        span = min(RATE_WINDOW_SECONDS, max(1.0, now - self._born))
        return round(sum(rows for _, rows in self._reads) / span, 1)

    def _newest_refused(self, now: float) -> RefusedBatch | None:
        return self._refused[1] if self._refused and now - self._refused[0] <= REFUSED_SECONDS else None

    def _snapshot(self, now: float) -> QueryStatus:
        refreshed = self._content_refreshed_at
        return QueryStatus(
            sink=self._sink,
            state=self._state,
            reason=self._reason,
            state_since=to_utc(self._state_since),
            started_at=to_utc(self._started_at),
            updated_at=to_utc(now),
            progress_at=to_utc(self._progress_at),
            last_batch_at=None if self._last_batch_at is None else to_utc(self._last_batch_at),
            batch_id=self._batch_id,
            batch_duration_ms=self._batch_duration_ms,
            input_rows_per_second=self._rate(self._monotonic()),
            lag_rows=self._lag,
            lag_seconds=self._lag_seconds,
            phases_ms=self._phases_ms,
            retries=self._retries,
            rows=self._rows,
            freshness=self._freshness.status(self._monotonic()),
            content_cache_age_seconds=None if refreshed is None else round(max(0.0, now - refreshed), 3),
            late_rows=self._late,
            repeat_rows=self._repeats,
            truncations=self._truncations,
            refused=self._newest_refused(self._monotonic()),
            rebuilds=self._rebuilds,
            dropped_records=self._dropped,
        )


def _add(rows: RowTotals, batch: BatchRecord) -> RowTotals:
    codes = rows.dead_letters.keys() | batch.dead_letters.keys()
    return RowTotals(
        read=rows.read + batch.read,
        delivered=rows.delivered + batch.delivered,
        dead_letters={code: rows.dead_letters.get(code, 0) + batch.dead_letters.get(code, 0) for code in sorted(codes)},
        tombstones=rows.tombstones + batch.tombstones,
        moves=rows.moves + batch.moves,
        already_delivered=rows.already_delivered + batch.already_delivered,
    )


def _one_line(reason: str) -> str:
    """Make a reason fit for strangers: it may quote an error, and the API shows it to whoever asks."""
    return redact(" ".join(str(reason).split()))[:REASON_LENGTH]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
