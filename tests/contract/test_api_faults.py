"""The API while something is broken: it says so at once, shows no inside, and recovers by itself."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis.exceptions import RedisError
from tests.contract.api_running import (
    KNOWN,
    Api,
    eventually,
    free_port,
    running_api,
    running_redis,
)

from engagement.monitoring.board import StatusBoard
from engagement.monitoring.client import redis_client
from engagement.monitoring.status import STATUS_KEY
from engagement.settings import RedisSettings
from engagement.sinks.redis.keys import content_stats

pytestmark = pytest.mark.redis


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[Api]:
    """For tests that break something."""
    with running_redis(tmp_path) as server, running_api(server) as running:
        yield running


def test_a_defect_shows_no_stack_trace(fragile: Api) -> None:
    fragile.client.hset(content_stats(KNOWN), "events", "secret detail")
    answer = fragile.get(f"/content/{KNOWN}/stats")
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
    board = StatusBoard("lake")
    assert board.flush(client) is False
    with pytest.raises(RedisError):
        client.ping()
    good = redis_client(fragile.server.settings)
    assert board.flush(good, force=True) is True
    assert 0 < int(good.ttl(STATUS_KEY)) <= 86_400
    good.close()
