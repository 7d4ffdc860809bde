"""The folder of a benchmark: whose it is, what is removed from it, and what keeps that from being done."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from tests.e2e.support.processes import await_that

from engagement.benchmark.place import kept_alone
from engagement.demo.children import Child
from engagement.embedded.process import ProcessSpec
from engagement.embedded.service import Service
from engagement.embedded.stack import Stack
from engagement.errors import TransientError

PROJECT = Path(__file__).resolve().parents[2]
LOAD = """
import signal
import time
from pathlib import Path

signal.signal(signal.SIGTERM, lambda *_: Path("asked").touch())
Path("ready").touch()
while not (Path("asked").exists() and Path("end").exists()):
    time.sleep(0.05)
"""
BENCHMARK = """
import sys
from pathlib import Path

from engagement.benchmark.place import kept_alone
from engagement.command import Command, Context, main
from engagement.demo.children import Child
from engagement.embedded.stack import Stack

home, code = Path(sys.argv[1]), sys.argv[2]


def run(context: Context) -> None:
    with kept_alone(Stack(home, {}, names=()), print):
        Child("load", [], home, {"PYTHONPATH": code}).start()
        context.stop.wait()


sys.exit(main(Command("benchmark", "Tries.", run, stops_itself=True), []))
"""


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """What a command gives back at its end."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Where a benchmark lives; its load, which ends when it is allowed to, is ended after the test."""
    (tmp_path / "code" / "jobs").mkdir(parents=True)
    (tmp_path / "code" / "jobs" / "load.py").write_text(LOAD)
    home = tmp_path / "engagement" / "benchmark"
    yield home
    for victim in loads(home):
        victim.kill()


@contextmanager
def measuring(home: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A benchmark with a load, in a process of its own."""
    command = [sys.executable, "-c", BENCHMARK, str(home), str(home.parents[1] / "code")]
    with subprocess.Popen(command, env={"PYTHONPATH": str(PROJECT / "lib"), "PATH": os.defpath}) as process:
        try:
            await_that((folder(home) / "ready").exists, 60, "no load has begun")
            yield process
        finally:
            process.kill()


def folder(home: Path) -> Path:
    return home / "demo" / "load"


def loads(home: Path) -> list[psutil.Process]:
    return [process for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == str(folder(home))]


def test_a_second_benchmark_is_refused_and_leaves_the_first_one_alone(home: Path) -> None:
    with measuring(home):
        env = {"PYTHONPATH": "lib:.", "PATH": os.defpath, "ENGAGEMENT_HOME": str(home.parent)}
        command = [sys.executable, "-m", "jobs.benchmark", "backfill"]
        second = subprocess.run(command, cwd=PROJECT, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert second.returncode == 1
        assert f"benchmark: another benchmark runs in {home}" in second.stderr
        assert len(loads(home)) == 1


def test_what_a_killed_benchmark_has_left_is_gone_before_the_next_one_begins(home: Path) -> None:
    with measuring(home) as killed:
        killed.kill()
        killed.wait()
        (home / "lake").mkdir()
        (folder(home) / "end").touch()
        said = list[str]()
        with kept_alone(Stack(home, {}, names=()), said.append):
            assert (loads(home), said) == ([], ["load: stopped"])
            assert not (home / "lake").exists()


class Idle(Service):
    """A service that does nothing."""

    name, variable = "idle", "IDLE_URL"

    def settings(self) -> dict[str, str]:
        return {}

    def address(self) -> str:
        return "nowhere"

    def prepare(self) -> None:
        pass

    def spec(self) -> ProcessSpec:
        return self.process_spec((sys.executable, "-c", "import time; time.sleep(600)"), {})

    def answers(self) -> bool:
        return True


def test_services_of_a_killed_benchmark_are_ended_as_well(tmp_path: Path) -> None:
    killed = Stack(tmp_path, {}, kinds=(Idle,))
    killed.up()
    assert [service.state for service in killed.status()] == ["running"]
    with kept_alone(Stack(tmp_path, {}, kinds=(Idle,)), lambda _: None):
        assert [service.state for service in killed.status()] == ["stopped"]


def test_no_other_gets_into_a_folder_that_the_first_one_had_to_empty(tmp_path: Path) -> None:
    (tmp_path / "demo.lock").touch()
    first, second = (kept_alone(Stack(tmp_path, {}, names=()), lambda _: None) for _ in range(2))
    with first, pytest.raises(TransientError, match="another benchmark runs"), second:
        pass


def test_no_further_ctrl_c_keeps_jobs_and_services_from_being_ended(home: Path) -> None:
    with measuring(home) as process:
        process.send_signal(signal.SIGINT)
        await_that((folder(home) / "asked").exists, 60, "the load was not asked to end")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process.send_signal(number)
        (folder(home) / "end").touch()
        assert process.wait(60) == 0
    assert loads(home) == []
    assert not home.exists()


def test_a_terminal_that_is_gone_keeps_nothing_from_being_ended(home: Path) -> None:
    def gone(_text: str) -> None:
        raise BrokenPipeError

    with kept_alone(Stack(home, {}, names=()), gone):
        load = Child("load", [], home, {"PYTHONPATH": str(home.parents[1] / "code")})
        load.start()
        await_that((folder(home) / "ready").exists, 60, "no load has begun")
        (folder(home) / "end").touch()
    assert load.pid is None
    assert not home.exists()
