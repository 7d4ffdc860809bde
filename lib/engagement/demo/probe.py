"""Freshness as a reader sees it: a row is committed, and the ranking is read until it shows.

Nothing here asks the job anything. Each probe is a `finish` event for a content of its own, so its score changes for
no other reason.
"""

import math
import threading
import uuid
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extras import execute_values
from redis import Redis
from redis.exceptions import RedisError

from engagement.errors import ConfigError, TransientError
from engagement.generator.catalogue import CATALOGUE_SIZE

_PROBES = 4_000
"""Enough that none comes round again within the window, so that a probe's content is not ranked before its event."""
_LEAST_INTERVAL_SECONDS = 0.2
_LINGER_SECONDS = 120.0
"""A content is taken longer than the window: until its event shows or is given up, and until the next full step."""
_POLL_SECONDS = 0.01
_LOST_AFTER_SECONDS = 60.0
_LAST_SECONDS = 70.0
"""Until the last probes have been seen or given up, and a last call of Redis has ended."""
_READY_POLL_SECONDS = 0.1
_LOOK_AHEAD = 50
"""Contents that Redis is asked about at once, to find one that is not ranked."""
_NAMESPACE = uuid.UUID("8f0c5d1e-2f6b-4f0e-9d3a-6f1f5b1f7c11")


@dataclass(frozen=True)
class Freshness:
    """Distribution of commit -> visible, in milliseconds."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    samples: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Freshness | None":
        """None without samples.

        >>> Freshness.of([0.1, 0.2, 0.3]).p50_ms
        200.0
        """
        if not seconds:
            return None
        ordered = sorted(seconds)

        def quantile(share: float) -> float:
            return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 1)

        return cls(quantile(0.5), quantile(0.95), quantile(0.99), quantile(1.0), len(ordered))


def probe_interval(window_seconds: float) -> float:
    """Seconds between two probes, so that there is always a content that is not ranked.

    >>> probe_interval(600), probe_interval(3600)
    (0.2, 0.93)
    """
    return max(_LEAST_INTERVAL_SECONDS, (window_seconds + _LINGER_SECONDS) / _PROBES)


def check_ranking_size(top_size: int) -> None:
    """Refuse a ranking that cuts off contents: what it lacks would be taken for lost. Raises: ConfigError."""
    least = CATALOGUE_SIZE + _PROBES
    if top_size < least:
        raise ConfigError(
            f"REDIS_TOP_CONTENT_SIZE is {top_size}: demo needs at least {least}, for {CATALOGUE_SIZE} contents of its "
            f"test data and {_PROBES} of its probes"
        )


class FreshnessProbe:
    """Commits a probe row every `interval_seconds` and times how long the ranking takes to show each."""

    def __init__(
        self, connect: Callable[[], Connection], client: Redis, top_key: str, interval_seconds: float,
        clock: Callable[[], float], committed: Callable[[int], None] = lambda _: None,
    ) -> None:  # fmt: skip
        """`committed` is told the id of each event as soon as it is in PostgreSQL."""
        self._connect = connect
        self._client = client
        self._top_key = top_key
        self._interval = interval_seconds
        self._clock = clock
        self._committed = committed
        self._lock = threading.Lock()
        self._seconds: list[float] = []
        self._pending: dict[str, float] = {}
        self._since = -math.inf
        """Probes that were committed before count for nothing."""
        self._ended = threading.Event()
        self.missed = 0
        """Probes that did not show within a minute, fell into an outage, or found no content that was not ranked."""

    def run(self, stop: threading.Event, leave: threading.Event | None = None) -> None:
        """Probe until told to stop; then look on until none is on its way any more, or told to leave.

        Without those last ones a ranking would look best when it is stuck. An outage of PostgreSQL or Redis costs
        samples, not the probe.
        """
        leave, turn = leave or threading.Event(), 0
        while not self._is_over(stop, leave):
            try:
                with closing(self._connect()) as database:
                    contents = _prepare(database)
                    due = self._clock()
                    while not self._is_over(stop, leave):
                        if self._clock() >= due and not stop.is_set():
                            turn = self._commit_next(database, contents, turn)
                            due += self._interval
                        self._look()
                        (leave if stop.is_set() else stop).wait(_POLL_SECONDS)
            except (psycopg2.Error, RedisError):
                self.missed += sum(map(self._counts, self._pending.values())) + (not stop.is_set())
                self._pending.clear()
                stop.wait(1.0)
        self._ended.set()

    def _is_over(self, stop: threading.Event, leave: threading.Event) -> bool:
        return leave.is_set() or (stop.is_set() and not self._pending)

    def _commit_next(self, database: Connection, contents: Sequence[str], turn: int) -> int:
        """Commit one probe row, for the next content that is not ranked yet; give the turn after it.

        It starts on time whether or not the ones before have been seen: a probe that waited for its predecessor would
        measure least when the ranking is slowest. Contents that are ranked, as those of a demo a moment ago still are,
        would show nothing; they are passed over at once, or the first probe of this one would come minutes late. Where
        none is left, the turn is a missed probe: what was not measured is at least said.
        """
        for first in range(turn, turn + len(contents), _LOOK_AHEAD):
            ahead = [contents[place % len(contents)] for place in range(first, first + _LOOK_AHEAD)]
            scores = self._client.zmscore(self._top_key, ahead)
            for place, (content_id, score) in enumerate(zip(ahead, scores, strict=True), start=first):
                if score is None and content_id not in self._pending:
                    self._commit(database, content_id)
                    return place + 1
        self.missed += 1
        return turn

    def _commit(self, database: Connection, content_id: str) -> None:
        with database.cursor() as cursor:
            cursor.execute(
                "insert into engagement_events (content_id, event_type, event_ts, duration_ms, device) "
                "values (%s, 'finish', now(), 30000, 'probe') returning id",
                (content_id,),
            )
            (event_id,) = cursor.fetchone() or (0,)
        self._pending[content_id] = self._clock()
        database.commit()
        self._committed(event_id)

    def _look(self) -> None:
        """Note which probes the ranking shows by now, and give up those that it has not shown for a minute."""
        contents = list(self._pending)
        if not contents:
            return
        scores = self._client.zmscore(self._top_key, contents)
        now = self._clock()
        for content_id, score in zip(contents, scores, strict=True):
            committed = self._pending[content_id]
            if score is None and now - committed <= _LOST_AFTER_SECONDS:
                continue
            del self._pending[content_id]
            with self._lock:
                if score is not None and self._counts(committed):
                    self._seconds.append(now - committed)
                self.missed += score is None and self._counts(committed)

    def _counts(self, committed: float) -> bool:
        return committed >= self._since

    def forget(self) -> None:
        """Drop what was measured so far, and what is on its way: the warm-up."""
        with self._lock:
            self._since, self.missed = self._clock(), 0
            self._seconds.clear()

    def take(self) -> list[float]:
        """The samples so far, and begin anew; those on their way belong to what comes next, for it makes them wait."""
        with self._lock:
            taken, self._seconds, self.missed = self._judged(), [], 0
        return taken

    def seen(self) -> bool:
        """Whether any probe has been visible yet."""
        with self._lock:
            return bool(self._seconds)

    def await_first(self, stop: threading.Event, limit_seconds: float, look_at: str) -> None:
        """Wait until a probe is visible, or told to stop. Raises: TransientError after the limit."""
        deadline = self._clock() + limit_seconds
        while not self.seen() and not stop.wait(_READY_POLL_SECONDS):
            if self._clock() > deadline:
                raise TransientError(f"nothing was ranked within {limit_seconds:.0f} s; see {look_at}")

    def await_last(self, stop: threading.Event) -> None:
        """After the end of probing, wait until none is on its way, or told to stop; each is given up after a minute."""
        deadline = self._clock() + _LAST_SECONDS
        while not self._ended.is_set() and self._clock() <= deadline and not stop.wait(_READY_POLL_SECONDS):
            pass

    def samples(self) -> list[float]:
        """Seconds from commit to visible, as they came; then a minute for each that was missed.

        Two ways of running are compared by these: one that stops showing anything must not look like the faster one.
        """
        with self._lock:
            return self._judged()

    def _judged(self) -> list[float]:
        return self._seconds + [_LOST_AFTER_SECONDS] * self.missed

    def freshness(self, newest: int | None = None) -> Freshness | None:
        """The distribution over all samples, or over the newest ones."""
        with self._lock:
            return Freshness.of(self._seconds[-newest:] if newest else self._seconds)


def _prepare(database: Connection) -> list[str]:
    contents = [str(uuid.uuid5(_NAMESPACE, f"probe-{number}")) for number in range(_PROBES)]
    rows = [(content_id, f"probe-{n}", f"Freshness probe {n}") for n, content_id in enumerate(contents)]
    with database.cursor() as cursor:
        execute_values(
            cursor,
            "insert into content (id, slug, title, content_type, length_seconds, publish_ts) values %s "
            "on conflict do nothing",
            rows,
            template="(%s, %s, %s, 'video', 60, now())",
        )
    database.commit()
    return contents
