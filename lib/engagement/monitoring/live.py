"""What the page is told, once a second, as server-sent events: made once, however many pages are open."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping

from starlette.concurrency import run_in_threadpool

from engagement.errors import TransientError
from engagement.monitoring.answers import Health, Live, LiveQuery, TopContent
from engagement.monitoring.health import ComponentHealth, HealthStatus
from engagement.monitoring.queries import query_component, speaks_now
from engagement.monitoring.rules import PROMISE_SECONDS
from engagement.monitoring.status import QueryStatus

PERIOD_SECONDS = 1.0
FRESH_SECONDS = 0.5
"""A message younger than this is given to the next page that asks, too."""
MOST_ROWS = 100
MOST_PAGES = 50
"""Open streams; each costs a message a second, and a browser tries again when it is refused."""
ORDER = ("redis", "warehouse", "external", "lake")


class LiveFeed:
    """Messages for all open pages; `read` and `health` are those of the API, `clock` is monotonic seconds."""

    def __init__(
        self,
        read: Callable[[int], TopContent],
        health: Callable[[], Health],
        queries: Callable[[], list[LiveQuery]],
        clock: Callable[[], float],
        stopping: threading.Event,
    ) -> None:
        self._read, self._health, self._queries = read, health, queries
        self._clock, self._stopping = clock, stopping
        self._lock = threading.Lock()
        self._newest: tuple[float, Live] | None = None
        self._pages = 0

    @property
    def is_full(self) -> bool:
        """Whether as many pages are open as are served."""
        return self._pages >= MOST_PAGES

    async def messages(self, limit: int) -> AsyncIterator[str]:
        """Events for one page until it goes or the server stops."""
        self._pages += 1
        try:
            yield "retry: 1000\n\n"
            while not self._stopping.is_set():
                # In a thread, as it waits for Redis; the lock makes pages share the answer instead of asking each.
                live = await run_in_threadpool(self._shared)
                yield f"data: {_first_rows(live, limit).model_dump_json()}\n\n"
                await asyncio.sleep(PERIOD_SECONDS)
        finally:
            self._pages -= 1

    def _shared(self) -> Live:
        with self._lock:
            if self._newest is None or self._clock() - self._newest[0] > FRESH_SECONDS:
                made = self._make()
                # From now: while Redis hangs, a message takes longer than it is fresh, and those who wait want it.
                self._newest = (self._clock(), made)
            return self._newest[1]

    def _make(self) -> Live:
        try:
            top = self._read(MOST_ROWS)
        except TransientError:
            top = None
        health = self._health()
        return Live(generated_at=health.checked_at, health=health, queries=self._queries(), top=top)


def live_queries(statuses: Mapping[str, QueryStatus], components: Mapping[str, ComponentHealth]) -> list[LiveQuery]:
    """The queries in the order of the page; what a silent one said is no news and left out."""
    known = [*(sink for sink in ORDER if sink in statuses), *sorted(statuses.keys() - set(ORDER))]
    return [_live_query(statuses[sink], components.get(query_component(sink))) for sink in known]


def _live_query(status: QueryStatus, component: ComponentHealth | None) -> LiveQuery:
    reading = None if component is None else component.reading
    speaks, recent = speaks_now(reading), status.freshness.recent
    return LiveQuery(
        sink=status.sink,
        status=HealthStatus.UNKNOWN if reading is None else reading.status,
        state=status.state.value,
        promise_seconds=PROMISE_SECONDS.get(status.sink),
        p50_seconds=recent.p50_seconds if speaks else None,
        p99_seconds=recent.p99_seconds if speaks else None,
        input_rows_per_second=status.input_rows_per_second if speaks else None,
        lag_rows=sum(status.lag_rows.values()) if speaks else None,
        lag_seconds=max(status.lag_seconds.values(), default=0.0) if speaks else None,
        delivered=status.rows.delivered,
        dead_letters=status.rows.dead_letters,
    )


def _first_rows(live: Live, limit: int) -> Live:
    if live.top is None or live.top.count <= limit:
        return live
    items = live.top.items[:limit]
    return live.model_copy(update={"top": live.top.model_copy(update={"items": items, "count": len(items)})})
