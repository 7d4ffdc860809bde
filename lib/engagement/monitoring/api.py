"""The monitoring API. It reads Redis and cached health, and never writes.

Answers are made from what `create_app` is given, so that tests and `serve` run the same application.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Annotated, Any
from uuid import UUID

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from engagement.errors import TransientError
from engagement.monitoring.answers import ContentStats, Health, HealthComponent, Metrics, RankedContent, TopContent
from engagement.monitoring.guard import Guard, headers_for
from engagement.monitoring.health import ComponentHealth, HealthMonitor, HealthStatus, judge
from engagement.monitoring.metrics import MetricsInput, metric_families, to_json, to_prometheus
from engagement.monitoring.queries import QUERY_PREFIX
from engagement.monitoring.status import StatusBook, to_utc
from engagement.sinks.redis.reader import EngagementReader

WEB = Path(__file__).parent / "web"
DEFAULT_LIMIT = 10
MAX_LIMIT = 1000
UNAVAILABLE = 503


@dataclass(frozen=True)
class ApiParts:
    """What the API is made of; `book` returns the newest status of the queries, `embedded` names our own services."""

    reader: EngagementReader
    monitor: HealthMonitor
    book: Callable[[], StatusBook]
    embedded: Collection[str] = ()
    window_minutes: int = 10
    clock: Callable[[], float] = time
    responses: Counter[int] = field(default_factory=Counter)


def create_app(parts: ApiParts) -> FastAPI:
    """Build the application; probing begins and ends with the server."""

    @asynccontextmanager
    async def probing(_app: FastAPI) -> AsyncIterator[None]:
        parts.monitor.start()
        yield
        parts.monitor.stop()

    app = FastAPI(title="Engagement", docs_url=None, redoc_url=None, lifespan=probing)
    app.add_middleware(Guard, responses=parts.responses)
    app.add_exception_handler(TransientError, _unavailable)
    app.add_exception_handler(Exception, _Broken(parts.responses))
    routes = _Routes(parts)
    app.add_api_route("/", routes.page, include_in_schema=False)
    app.add_api_route("/top-content", routes.top_content, summary="The live ranking", responses=_SAYS_UNAVAILABLE)
    app.add_api_route(
        "/content/{content_id}/stats", routes.content_stats, summary="A content's window", responses=_SAYS_UNAVAILABLE
    )
    app.add_api_route("/health", routes.health, summary="Health", responses={UNAVAILABLE: {"model": Health}})
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

    def __init__(self, parts: ApiParts) -> None:
        self._parts = parts

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

    async def health(self, response: Response) -> Health:
        """Return the newest readings; 503 when the whole is unhealthy."""
        components = self._parts.monitor.components()
        status = judge(list(components.values()))
        if status is HealthStatus.UNHEALTHY:
            response.status_code = UNAVAILABLE
        shown = {name: HealthComponent.of(c, embedded=self._embedded(name)) for name, c in components.items()}
        return Health(status=status, checked_at=to_utc(self._parts.clock()), components=shown)

    async def metrics(self) -> Metrics:
        """Return the status of every query and all metrics."""
        given = self._given(self._parts.monitor.components())
        return Metrics(
            generated_at=to_utc(given.now), queries=dict(given.queries), metrics=to_json(metric_families(given))
        )

    async def prometheus(self) -> Response:
        """Return all metrics in Prometheus's text format."""
        families = metric_families(self._given(self._parts.monitor.components()))
        return Response(to_prometheus(families), headers={"content-type": CONTENT_TYPE_LATEST})

    def _given(self, components: dict[str, ComponentHealth]) -> MetricsInput:
        return MetricsInput(self._parts.book().queries, components, dict(self._parts.responses), self._parts.clock())

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
