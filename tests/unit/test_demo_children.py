"""The jobs beside a demo: real processes, stopped whatever ends the demo."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests
from tests.e2e.support.processes import await_that

from engagement.demo.children import Child, free_metrics_port, metrics_url
from engagement.settings import MonitoringSettings

PROJECT = Path(__file__).resolve().parents[2]
JOB = """
import signal
import time
from pathlib import Path

signal.signal(signal.SIGTERM, lambda *_: Path("asked").touch())
Path("ready").touch()
while not Path("end").exists():
    time.sleep(0.05)
"""
DEMO = """
import sys
from pathlib import Path

from engagement.command import Command, Context, main
from engagement.demo.children import Child, kept_running

home = Path(sys.argv[1])


def run(context: Context) -> None:
    with kept_running([Child(name, [], home, {"PYTHONPATH": str(home)}) for name in ("one", "two")]):
        context.stop.wait()


sys.exit(main(Command("demo", "Tries.", run, stops_itself=True), []))
"""


@pytest.fixture
def demo(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A demo whose jobs end when they are allowed to; both run."""
    (tmp_path / "jobs").mkdir()
    for name in ("one", "two"):
        (tmp_path / "jobs" / f"{name}.py").write_text(JOB)
    command = [sys.executable, "-c", DEMO, str(tmp_path)]
    with subprocess.Popen(command, env={"PYTHONPATH": str(PROJECT / "lib"), "PATH": os.defpath}) as process:
        await_that(lambda: all((folder / "ready").exists() for folder in folders(tmp_path)), 60, "no job has begun")
        yield process
        process.kill()
    for victim in jobs(tmp_path):
        victim.kill()


def folders(home: Path) -> list[Path]:
    return [home / "demo" / name for name in ("one", "two")]


def jobs(home: Path) -> list[psutil.Process]:
    return [process for process in psutil.process_iter(["cwd"]) if process.info["cwd"] in map(str, folders(home))]


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_jobs_are_stopped_by_the_first_signal_and_no_further_one_cuts_that_short(
    demo: "subprocess.Popen[bytes]", tmp_path: Path, first: signal.Signals
) -> None:
    demo.send_signal(first)
    await_that(lambda: all((folder / "asked").exists() for folder in folders(tmp_path)), 60, "no job was asked to end")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        demo.send_signal(number)
    for folder in folders(tmp_path):
        (folder / "end").touch()
    assert demo.wait(60) == 0
    assert jobs(tmp_path) == []


@pytest.mark.parametrize(("lives_seconds", "least", "most"), [(0, 10, 20), (200, 2, 3)])
def test_a_job_that_dies_again_and_again_is_started_less_and_less_often(
    tmp_path: Path, lives_seconds: int, least: int, most: int
) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "failing.py").write_text("raise SystemExit(1)")
    now, starts = 0.0, 0
    child = Child("failing", [], tmp_path, {"PYTHONPATH": str(tmp_path)}, lambda: now)
    child.start()
    while now < 600:
        await_that(lambda: child.pid is None, 60, "it does not end")
        now += 2
        if child.heal():
            starts += 1
            now += lives_seconds
    child.stop()
    assert least <= starts <= most


@pytest.mark.parametrize(("host", "url"), [("127.0.0.1", "http://127.0.0.1:8080"), ("::1", "http://[::1]:8080")])
def test_the_address_of_the_api_is_one_that_can_be_asked(host: str, url: str) -> None:
    assert metrics_url(MonitoringSettings(metrics_host=host), 8080) == url
    assert requests.Request("GET", url).prepare().url == f"{url}/"


def test_a_port_is_found_on_whatever_loopback_address_the_api_listens() -> None:
    for host in ("127.0.0.1", "::1"):
        assert free_metrics_port(MonitoringSettings(metrics_host=host, metrics_port=0)) > 0
