"""Keeps the board alive on the driver: ticks and publishes, counts again, and says when a rebuild is due.

The loop never dies of Redis: while it is away it tries again with growing pauses. Any other error ends the loop and is
left in `failure` for the owner.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from time import monotonic

from engagement.errors import TransientError, TransientSinkError
from engagement.sinks.redis.board import RedisBoard
from engagement.sinks.redis.faults import WENT_BACK, OvertakenError, ShardLostError
from engagement.sinks.redis.places import Places, went_back
from engagement.sinks.redis.publisher import STATS_SLICE, Publisher
from engagement.sinks.redis.reporting import Unpublished

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
"""Longest time between two published rankings."""
QUIET_SECONDS = 0.1
"""Shortest time between two published rankings."""
STATS_SECONDS = 0.05
"""Pause between two slices of statistics, so that writers are not held up."""
RECOUNT_SECONDS = 10.0
RECOUNT_CONTENTS = 200
FIRST_RETRY_SECONDS = 0.2
LAST_RETRY_SECONDS = 5.0
RECOUNT_DUE = "snapshot rows or replayed dead letters"
REBUILD_PAUSE_SECONDS = 5.0
"""Least time between two rebuilds, and before a failed one is tried again."""
MOST_DOUBLINGS = 5
"""Of that time, while one rebuild after the other loses its shards."""


class RedisKeeper:
    """One thread's work; `rebuild(reason)` begins one in another thread, so that ticks go on meanwhile."""

    def __init__(
        self,
        board: RedisBoard,
        publisher: Publisher,
        rebuild: Callable[[str], Future[None]],
        places: Places,
        unpublished: Unpublished,
        now: Callable[[], float | None] = lambda: None,
    ) -> None:
        self.failure: BaseException | None = None
        self._board = board
        self._publisher = publisher
        self._rebuild = rebuild
        self._places = places
        self._unpublished = unpublished
        self._now = now
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._reasons: list[str] = []
        self._running: Future[None] | None = None
        self._running_reasons: list[str] = []
        self._losses = 0
        """Rebuilds in a row that lost the shards they were making."""
        self._rebuild_after = self._publish_after = self._recount_after = float("-inf")
        self._retry_seconds = FIRST_RETRY_SECONDS
        self._asked = True
        self._stats_waiting = 0
        self._recount_at: tuple[int, int] = (0, 0)  # (place in the list of partitions, cursor)
        self._is_down = False
        """Whether Redis did not answer last time."""

    def wake(self) -> None:
        """Publish soon: a micro-batch was delivered or a generation swapped. Any thread may call it."""
        self._asked = True
        self._wake.set()

    def request_rebuild(self, reason: str | ShardLostError) -> None:
        """Rebuild soon: snapshot rows, a content's length changed, a shard is lost. Any thread may call it.

        A loss that is reported while a rebuild runs is the one being healed; anything else asks for another one.
        """
        with self._lock:
            if isinstance(reason, ShardLostError):
                if self._running is not None:
                    return
                reason = f"shard {reason.partition}: {reason.why}"
            if reason not in self._reasons:
                self._reasons.append(reason)
        self._wake.set()

    def stop(self) -> None:
        """End `run` soon. Any thread may call it."""
        self._stopped.set()
        self._wake.set()

    def run(self) -> None:
        """Work until `stop`; the body of the owner's thread."""
        while not self._stopped.is_set():
            self._wake.clear()
            try:
                pause = self.step(monotonic())
            except Exception as error:  # noqa: BLE001 a thread has no caller: the owner reads `failure`
                self.failure = error
                return
            self._wake.wait(pause)

    def step(self, now: float) -> float:
        """Do what is due at `now` (monotonic seconds); returns the seconds until something is due again."""
        self._look_after_rebuild(now)
        try:
            self._keep(now)
        except OvertakenError:
            self._publisher.forget()
            self._asked = True
        except ShardLostError as error:
            self._is_down = False
            self.request_rebuild(error)
        except TransientSinkError:
            self._note_down(now)
        due = QUIET_SECONDS if self._asked else TICK_SECONDS
        pauses = [self._publish_after + due - QUIET_SECONDS - now]
        if not self._is_down:
            pauses.append(STATS_SECONDS if self._stats_waiting else self._recount_after - now)
        if self._reasons or self._running:
            pauses.append(QUIET_SECONDS)
        return max(0.0, min(pauses))

    def _keep(self, now: float) -> None:
        """Publish if due, else one slice of statistics or a recount."""
        waited = now - self._publish_after + QUIET_SECONDS
        if now >= self._publish_after and (self._asked or waited >= TICK_SECONDS):
            self._asked = False
            self._publish(now)
        elif self._is_down:
            return
        elif self._stats_waiting:
            self._stats_waiting = self._publisher.publish_stats(STATS_SLICE)
        elif now >= self._recount_after:
            self._recount_after = now + RECOUNT_SECONDS
            self._recount()

    def _publish(self, now: float) -> None:
        self._publish_after = now + QUIET_SECONDS
        partitions = self._board.partitions()
        if not partitions:  # the first start: Redis answers, the first rebuild makes the shards
            self._is_down = False
            return
        known, waiting = self._places.known(), self._unpublished.waiting()
        published = self._publisher.publish(partitions, self._now())
        self._unpublished.shown(waiting)
        self._retry_seconds = FIRST_RETRY_SECONDS
        self._is_down = False
        # A mark is on the generation that left the rows out: one that is being built beside it counts them.
        if published.recount_due and self._running is None:
            self.request_rebuild(RECOUNT_DUE)
        for partition in went_back(known, published.places):
            self.request_rebuild(ShardLostError(partition, WENT_BACK))
        self._places.note(published.places)
        self._stats_waiting = self._publisher.publish_stats(STATS_SLICE)

    def _recount(self) -> None:
        partitions = self._board.partitions()
        if not partitions:
            return
        place, cursor = self._recount_at
        partition = partitions[place % len(partitions)]
        following, _, differ = self._board.shard(partition).recount(cursor, RECOUNT_CONTENTS)
        self._recount_at = (place, following) if following else (place + 1, 0)
        if differ:
            self.request_rebuild(f"recount of shard {partition} differs")

    def _look_after_rebuild(self, now: float) -> None:
        if self._running is not None:
            if not self._running.done():
                return
            self._end_rebuild(self._running, now)
        if self._reasons and now >= self._rebuild_after and not self._is_down:
            with self._lock:
                self._running_reasons, self._reasons = self._reasons, []
            self._running = self._rebuild(", ".join(self._running_reasons))

    def _end_rebuild(self, ended: Future[None], now: float) -> None:
        self._running = None
        error = ended.exception()
        # The newest rebuild drops those under way. Two drivers would drop each other's for ever, were their pauses not
        # longer in the end than a rebuild takes.
        self._losses = self._losses + 1 if isinstance(error, ShardLostError | OvertakenError) else 0
        self._rebuild_after = now + REBUILD_PAUSE_SECONDS * 2 ** min(MOST_DOUBLINGS, max(0, self._losses - 1))
        if error is None:
            self._places.forget()
            self.wake()
        elif isinstance(error, TransientError):
            log.warning("redis: the board could not be counted again, trying once more: %s", error)
            for reason in self._running_reasons:
                if reason != RECOUNT_DUE:  # the mark asks for itself, unless another driver has counted meanwhile
                    self.request_rebuild(reason)
        else:
            raise error

    def _note_down(self, now: float) -> None:
        """Try again with growing pauses; what was written meanwhile is unknown, so the next publish reads all."""
        self._publisher.forget()
        self._is_down = self._asked = True
        self._publish_after = now + self._retry_seconds
        self._retry_seconds = min(LAST_RETRY_SECONDS, 2 * self._retry_seconds)
