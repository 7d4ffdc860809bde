"""`serve` as a person starts it: the command, its address, its end."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from tests.contract.api_running import RedisServer, eventually, free_port, running_redis

from engagement.errors import EngagementError
from engagement.monitoring.server import address, listen

pytestmark = pytest.mark.redis
PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@contextmanager
def serve(home: Path, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Start the command with nothing but these settings; ENGAGEMENT_HOME keeps a developer's own stack out of it."""
    env = {"PATH": os.defpath, "PYTHONPATH": "lib", "ENGAGEMENT_HOME": str(home), **variables}
    command = [sys.executable, "-m", "jobs.serve"]
    process = subprocess.Popen(command, cwd=PROJECT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        try:
            yield process
        finally:
            process.kill()


def said_address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip().rpartition(" ")[2]


def component(url: str, name: str) -> dict[str, object]:
    found: dict[str, object] = requests.get(url + "health", timeout=10).json()["components"][name]
    return found


def test_serve_says_where_it_listens_and_ends_cleanly_when_told_to(redis_server: RedisServer, tmp_path: Path) -> None:
    with serve(tmp_path, REDIS_URL=redis_server.url, METRICS_PORT="0") as process:
        url = said_address(process)
        assert url.startswith("http://127.0.0.1:")
        assert "<title>Engagement</title>" in requests.get(url, timeout=10).text
        assert requests.get(url + "top-content", timeout=10).json()["items"] == []
        process.terminate()
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, "Traceback" in errors) == (0, False)


def test_on_another_address_any_name_is_answered(redis_server: RedisServer, tmp_path: Path) -> None:
    with serve(tmp_path, REDIS_URL=redis_server.url, METRICS_PORT="0", METRICS_HOST="0.0.0.0") as process:  # noqa: S104
        url = said_address(process)
        answer = requests.get(url + "top-content", headers={"Host": "figures.internal"}, timeout=10)
        assert answer.status_code == 200


@pytest.mark.parametrize("host", ["LOCALHOST", "0:0:0:0:0:0:0:1"])
def test_however_the_loopback_is_spelled_no_other_name_is_answered(
    redis_server: RedisServer, tmp_path: Path, host: str
) -> None:
    with serve(tmp_path, REDIS_URL=redis_server.url, METRICS_PORT="0", METRICS_HOST=host) as process:
        url = said_address(process)
        assert requests.get(url + "top-content", timeout=10).status_code == 200
        answer = requests.get(url + "top-content", headers={"Host": "rebound.example"}, timeout=10)
        assert answer.status_code == 400


def test_health_without_a_streaming_job_says_so(redis_server: RedisServer, tmp_path: Path) -> None:
    with serve(tmp_path, REDIS_URL=redis_server.url, METRICS_PORT="0") as process:
        url = said_address(process)
        eventually(
            lambda: requests.get(url + "health", timeout=10).json()["components"]["redis"]["status"] == "healthy"
        )
        answer = requests.get(url + "health", timeout=10)
        assert answer.status_code == 503
        assert answer.json()["components"]["query:redis"]["reason"] == "the streaming job has never reported"


def test_addresses_of_the_running_stack_are_embedded_and_others_are_not(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    kafka = f"127.0.0.1:{free_port()}"
    (tmp_path / "stack.env").write_text(f"REDIS_URL={redis_server.url}\nKAFKA_BOOTSTRAP_SERVERS=127.0.0.1:9\n")
    with serve(tmp_path, METRICS_PORT="0", KAFKA_BOOTSTRAP_SERVERS=kafka) as process:
        components = requests.get(said_address(process) + "health", timeout=10).json()["components"]
        assert (components["redis"]["embedded"], components["kafka"]["embedded"]) == (True, False)


def test_without_health_checks_only_redis_is_asked(redis_server: RedisServer, tmp_path: Path) -> None:
    variables = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9", "ENABLE_HEALTH_CHECKS": "false"}
    with serve(tmp_path, REDIS_URL=redis_server.url, METRICS_PORT="0", **variables) as process:
        components = requests.get(said_address(process) + "health", timeout=10).json()["components"]
        assert set(components) == {"redis", "query:redis"}


def test_a_taken_port_is_said_with_what_to_do(redis_server: RedisServer, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with serve(tmp_path, REDIS_URL=redis_server.url, METRICS_PORT=port) as process:
            _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "METRICS_PORT" in errors
    assert "Traceback" not in errors


def test_serve_without_redis_in_the_settings_is_a_misuse(tmp_path: Path) -> None:
    with serve(tmp_path) as process:
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "REDIS_URL" in errors


def test_a_listener_for_every_address_is_shown_as_one_a_browser_can_open() -> None:
    with listen("0.0.0.0", 0) as listener:  # noqa: S104 - what a person may configure
        assert address(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_answers_are_sent_without_waiting_for_acknowledgements() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_an_address_that_is_not_ours_is_refused_with_advice() -> None:
    with pytest.raises(EngagementError, match="METRICS_HOST"):
        listen("192.0.2.1", 0)
