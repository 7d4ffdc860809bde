"""The monitoring API. It reads Redis and cached health, and never writes.

Answers are made from what `create_app` is given, so that tests and `serve` run the same application.
"""

import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, time
from typing import Annotated, Any
from uuid import UUID

import psutil
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from engagement.errors import TransientError
from engagement.monitoring.answers import (
    ContentEvent,
    ContentEvents,
    ContentStats,
    Health,
    HealthComponent,
    LiveQuery,
    Metrics,
    RankedContent,
    TopContent,
)
from engagement.monitoring.catalogue import PROCESS_MEMORY
from engagement.monitoring.guard import Guard, headers_for, names_of
from engagement.monitoring.health import HealthMonitor, HealthStatus, judge
from engagement.monitoring.live import MOST_ROWS, LiveFeed, live_queries
from engagement.monitoring.measures import Measures, ProcessMeasures
from engagement.monitoring.metrics import MetricsInput, metric_families, to_json, to_prometheus
from engagement.monitoring.rules import QUERY_PREFIX
from engagement.monitoring.status import StatusBook, to_utc
from engagement.sinks.redis.reader import EngagementReader

WEB = Path(__file__).parent / "web"
DEFAULT_LIMIT = 10
MAX_LIMIT = 1000
DEFAULT_EVENTS = 20
MAX_EVENTS = 200
UNAVAILABLE = 503


@dataclass(frozen=True)
class Told:
    """What the jobs said of themselves, as last read from Redis."""

    book: StatusBook
    measures: Mapping[str, ProcessMeasures] = field(default_factory=dict)


@dataclass(frozen=True)
class ApiParts:
    """What the API is made of; `told` returns what the jobs said last, `embedded` names our own services."""

    reader: EngagementReader
    monitor: HealthMonitor
    told: Callable[[], Told]
    measures: Measures
    """What this process measures itself."""
    embedded: Collection[str] = ()
    window_minutes: int = 10
    clock: Callable[[], float] = time
    responses: Counter[int] = field(default_factory=Counter)
    host: str = "127.0.0.1"
    """Address it listens on."""


def create_app(parts: ApiParts) -> FastAPI:
    """Build the application; probing begins and ends with the server."""

    @asynccontextmanager
    async def probing(_app: FastAPI) -> AsyncIterator[None]:
        parts.monitor.start()
        yield
        parts.monitor.stop()

    app = FastAPI(title="Engagement", docs_url=None, redoc_url=None, lifespan=probing)
    app.add_middleware(Guard, responses=parts.responses, names=names_of(parts.host))
    app.add_exception_handler(TransientError, _unavailable)
    app.add_exception_handler(Exception, _Broken(parts.responses))
    app.state.stopping = threading.Event()
    routes = _Routes(parts, app.state.stopping)
    app.add_api_route("/", routes.page, methods=["GET", "HEAD"], include_in_schema=False)
    app.add_api_route("/top-content", routes.top_content, summary="The live ranking", responses=_SAYS_UNAVAILABLE)
    app.add_api_route(
        "/content/{content_id}/stats", routes.content_stats, summary="A content's window", responses=_SAYS_UNAVAILABLE
    )
    app.add_api_route(
        "/content/{content_id}/events", routes.content_events, summary="Its newest", responses=_SAYS_UNAVAILABLE
    )
    app.add_api_route("/live", routes.live, summary="All of the page, as server-sent events", response_class=Response)
    app.add_api_route("/health", routes.health, summary="Health", responses={UNAVAILABLE: {"model": Health}})
    app.add_api_route("/health", routes.health, methods=["HEAD"], include_in_schema=False)  # how many probes ask
    app.add_api_route("/metrics", routes.metrics, summary="Metrics as JSON")
    app.add_api_route("/metrics/prometheus", routes.prometheus, summary="Metrics as text", response_class=Response)
    app.mount("/static", StaticFiles(directory=WEB), name="static")
    return app


_SAYS_UNAVAILABLE: dict[int | str, dict[str, Any]] = {
    404: {"description": "Nothing under this id"},
    UNAVAILABLE: {"description": "Redis does not answer; ask again"},
}


class _Routes:
    """One method per address.

    Those that wait for Redis are plain functions, which FastAPI runs in threads; the others only look at memory and run
    in the event loop, so they answer even when all threads wait for a hanging Redis.
    """

    def __init__(self, parts: ApiParts, stopping: threading.Event) -> None:
        self._parts = parts
        self._process = psutil.Process()
        self._feed = LiveFeed(self.top_content, self._judged, self._live_queries, monotonic, stopping)

    async def page(self) -> FileResponse:
        """Send the page for people."""
        return FileResponse(WEB / "index.html")

    def top_content(self, limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT) -> TopContent:
        """Return the ranking of the sliding window, best first."""
        rows = self._parts.reader.get_top_content(limit)
        items = [RankedContent.model_validate(row) for row in rows]
        now, minutes = to_utc(self._parts.clock()), self._parts.window_minutes
        return TopContent(generated_at=now, window_minutes=minutes, limit=limit, count=len(items), items=items)

    def content_stats(self, content_id: UUID) -> ContentStats:
        """Return a content's totals in the sliding window; 404 when it has no event there."""
        stats = self._parts.reader.get_content_stats(str(content_id))
        if stats is None:
            raise HTTPException(status_code=404, detail="no event of this content in the window")
        return ContentStats.model_validate(stats)

    def content_events(
        self, content_id: UUID, count: Annotated[int, Query(ge=1, le=MAX_EVENTS)] = DEFAULT_EVENTS
    ) -> ContentEvents:
        """Return a content's newest events, without who it was; empty when there is none."""
        rows = self._parts.reader.get_recent_events(str(content_id), count)
        items = [ContentEvent.model_validate(row) for row in rows]
        return ContentEvents(content_id=str(content_id), count=len(items), items=items)

    async def live(self, limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = DEFAULT_LIMIT) -> StreamingResponse:
        """Send the page's figures once a second until the caller goes."""
        if self._feed.is_full:
            raise HTTPException(status_code=UNAVAILABLE, detail="as many pages are open as are served")
        return StreamingResponse(self._feed.messages(limit), media_type="text/event-stream")

    async def health(self, response: Response) -> Health:
        """Return the newest readings; 503 when the whole is unhealthy."""
        health = self._judged()
        if health.status is HealthStatus.UNHEALTHY:
            response.status_code = UNAVAILABLE
        return health

    async def metrics(self) -> Metrics:
        """Return the status of every query and all metrics."""
        given = self._given()
        return Metrics(
            generated_at=to_utc(given.now), queries=dict(given.queries), metrics=to_json(metric_families(given))
        )

    async def prometheus(self) -> Response:
        """Return all metrics in Prometheus's text format."""
        return Response(to_prometheus(metric_families(self._given())), headers={"content-type": CONTENT_TYPE_LATEST})

    def _judged(self) -> Health:
        components = self._parts.monitor.components()
        shown = {name: HealthComponent.of(c, embedded=self._embedded(name)) for name, c in components.items()}
        now = to_utc(self._parts.clock())
        return Health(status=judge(list(components.values())), checked_at=now, components=shown)

    def _live_queries(self) -> list[LiveQuery]:
        return live_queries(self._parts.told().book.queries, self._parts.monitor.components())

    def _given(self) -> MetricsInput:
        told, own = self._parts.told(), self._parts.measures
        own.set(PROCESS_MEMORY, self._process.memory_info().rss, process=own.process)
        return MetricsInput(
            queries=told.book.queries,
            components=self._parts.monitor.components(),
            responses=dict(self._parts.responses),
            now=self._parts.clock(),
            measures={**told.measures, own.process: own.snapshot()},
        )

    def _embedded(self, component: str) -> bool:
        # The streaming job is ours wherever it runs; it is no embedded service.
        return component in self._parts.embedded and not component.startswith(QUERY_PREFIX)


async def _unavailable(_request: Request, _error: Exception) -> JSONResponse:
    return JSONResponse(
        {"detail": "Redis does not answer; /health says more"}, UNAVAILABLE, headers={"retry-after": "1"}
    )


class _Broken:
    """Answers for defects: the trace goes to the log of the server, never to the caller."""

    def __init__(self, responses: Counter[int]) -> None:
        self._responses = responses

    async def __call__(self, request: Request, _error: Exception) -> JSONResponse:
        # Starlette makes this answer outside all middleware, so Guard neither counts it nor adds its headers.
        self._responses[500] += 1
        return JSONResponse({"detail": "internal error"}, 500, headers=headers_for(request.url.path))
