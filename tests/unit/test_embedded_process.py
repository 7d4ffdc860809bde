"""Supervised processes: found again, never mistaken, never left behind."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from engagement.embedded.process import ProcessSpec, Supervised, identity_of, write_private
from engagement.errors import StackError

SLEEP = ("/bin/sleep", "600")


def spec(home: Path, *command: str) -> ProcessSpec:
    return ProcessSpec(
        name="sleeper",
        command=command or SLEEP,
        folder=home / "sleeper",
        log=home / "logs" / "sleeper.log",
        pid_file=home / "run" / "sleeper.json",
        env={"PATH": os.defpath},
        stop_seconds=1.0,
    )


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Supervised]:
    supervised = Supervised("sleeper", tmp_path / "run" / "sleeper.json")
    yield supervised
    supervised.stop(spec(tmp_path))


def test_a_started_process_is_found_by_whoever_comes_next(sleeper: Supervised, tmp_path: Path) -> None:
    sleeper.start(spec(tmp_path), lambda: True, 5.0)
    found = Supervised("sleeper", tmp_path / "run" / "sleeper.json").process()
    assert found is not None
    assert found == sleeper.process()


def test_it_has_a_session_of_its_own_so_that_ctrl_c_does_not_reach_it(sleeper: Supervised, tmp_path: Path) -> None:
    sleeper.start(spec(tmp_path), lambda: True, 5.0)
    process = sleeper.process()
    assert process is not None
    assert os.getsid(process.pid) == process.pid


def test_a_stopped_process_is_gone_with_its_pid_file(sleeper: Supervised, tmp_path: Path) -> None:
    sleeper.start(spec(tmp_path), lambda: True, 5.0)
    process = sleeper.process()
    sleeper.stop(spec(tmp_path))
    assert process is not None
    assert not psutil.pid_exists(process.pid)
    assert not (tmp_path / "run" / "sleeper.json").exists()


def test_a_process_that_ignores_sigterm_is_killed(sleeper: Supervised, tmp_path: Path) -> None:
    stubborn = spec(tmp_path, "/bin/bash", "-c", "trap '' TERM; touch up; while :; do sleep 0.1; done")
    sleeper.start(stubborn, (tmp_path / "sleeper" / "up").exists, 5.0)
    process = sleeper.process()
    sleeper.stop(stubborn)
    assert process is not None
    assert not psutil.pid_exists(process.pid)


def test_a_killed_process_is_noticed(sleeper: Supervised, tmp_path: Path) -> None:
    sleeper.start(spec(tmp_path), lambda: True, 5.0)
    process = sleeper.process()
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    psutil.wait_procs([process], timeout=5.0)
    assert sleeper.process() is None


def test_a_recycled_pid_is_not_taken_for_ours_and_not_killed(sleeper: Supervised, tmp_path: Path) -> None:
    stranger = subprocess.Popen(SLEEP)
    former = {**identity_of(stranger.pid), "ticks": 0}
    write_private(tmp_path / "run" / "sleeper.json", json.dumps({"pid": stranger.pid, **former}))
    assert sleeper.process() is None
    sleeper.stop(spec(tmp_path))
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_a_clock_that_is_set_makes_no_process_a_stranger(
    sleeper: Supervised, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper.start(spec(tmp_path), lambda: True, 5.0)
    before = psutil._pslinux.boot_time()
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: before + 3600.0)
    found = Supervised("sleeper", tmp_path / "run" / "sleeper.json").process()
    assert found is not None
    assert found.create_time() > time.time()  # what an hour's step does to the times that psutil tells


def test_a_pid_of_before_the_last_boot_is_not_taken_for_ours(sleeper: Supervised, tmp_path: Path) -> None:
    sleeper.start(spec(tmp_path), lambda: True, 5.0)
    pid_file = tmp_path / "run" / "sleeper.json"
    written = pid_file.read_text()
    pid_file.write_text(json.dumps({**json.loads(written), "boot": "another"}))
    assert Supervised("sleeper", pid_file).process() is None
    pid_file.write_text(written)


def test_a_process_of_an_earlier_version_is_ended_and_started_anew(sleeper: Supervised, tmp_path: Path) -> None:
    sleeper.start(spec(tmp_path), lambda: True, 5.0)
    earlier, pid_file = sleeper.process(), tmp_path / "run" / "sleeper.json"
    assert earlier is not None
    pid_file.write_text(json.dumps({"pid": earlier.pid, "started": earlier.create_time(), "name": "sleeper"}))
    sleeper.start(spec(tmp_path), lambda: True, 5.0)
    assert sleeper.process() not in (None, earlier)
    assert not earlier.is_running() or earlier.status() == psutil.STATUS_ZOMBIE


def test_what_no_pid_file_knows_is_ended_before_a_new_start(sleeper: Supervised, tmp_path: Path) -> None:
    sleeper.start(spec(tmp_path), lambda: True, 5.0)
    lost = sleeper.process()
    (tmp_path / "run" / "sleeper.json").unlink()
    sleeper.start(spec(tmp_path), lambda: True, 5.0)
    assert lost is not None
    assert sleeper.process() not in (None, lost)
    assert not lost.is_running() or lost.status() == psutil.STATUS_ZOMBIE


def test_what_no_pid_file_knows_is_found_through_a_link_too(sleeper: Supervised, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "home")
    linked = replace(spec(tmp_path / "link"), pid_file=tmp_path / "run" / "sleeper.json")
    sleeper.start(linked, lambda: True, 5.0)
    lost = sleeper.process()
    (tmp_path / "run" / "sleeper.json").unlink()
    sleeper.start(linked, lambda: True, 5.0)
    try:
        assert lost is not None
        assert not lost.is_running() or lost.status() == psutil.STATUS_ZOMBIE
    finally:
        sleeper.stop(linked)
        if lost is not None and lost.is_running():
            lost.kill()


def test_a_process_that_ends_while_starting_shows_its_last_words(sleeper: Supervised, tmp_path: Path) -> None:
    failing = spec(tmp_path, "/bin/bash", "-c", "echo no space left on device; exit 1")
    with pytest.raises(StackError, match=r"(?s)sleeper: ended while starting.*no space left on device.*log: "):
        sleeper.start(failing, lambda: False, 5.0)


def test_a_process_that_never_answers_is_given_up_and_stopped(sleeper: Supervised, tmp_path: Path) -> None:
    with pytest.raises(StackError, match="no answer after"):
        sleeper.start(spec(tmp_path), lambda: False, 0.2)
    assert sleeper.process() is None


def test_a_process_whose_start_is_given_up_is_stopped(sleeper: Supervised, tmp_path: Path) -> None:
    begun: list[psutil.Process | None] = []

    def given_up() -> bool:
        begun.append(sleeper.process())
        raise StackError("sleeper", "given up")

    with pytest.raises(StackError, match="given up"):
        sleeper.start(spec(tmp_path), given_up, 5.0)
    (process,) = begun
    assert process is not None
    assert not psutil.pid_exists(process.pid)
    assert not (tmp_path / "run" / "sleeper.json").exists()


def test_a_process_can_be_told_to_leave_the_processors_to_others(sleeper: Supervised, tmp_path: Path) -> None:
    sleeper.start(replace(spec(tmp_path), niceness=7), lambda: True, 5.0)
    found = sleeper.process()
    assert found is not None
    assert found.nice() == min(19, psutil.Process().nice() + 7)


def test_a_private_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    write_private(tmp_path / "secrets" / "one", "word")
    assert (tmp_path / "secrets" / "one").stat().st_mode & 0o777 == 0o600
