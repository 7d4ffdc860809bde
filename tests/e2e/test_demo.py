"""`demo`, as a person runs it: unattended with a report, and ended by Ctrl-C; nothing may be left running."""

import json
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.support.processes import PATIENCE, JobProcess, await_that, leftovers
from tests.e2e.support.world import host_environment

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400 * PATIENCE)]

UNATTENDED_SECONDS = 200
READY_SECONDS = 120
END_SECONDS = 60
REPORT_KEYS = {
    *("setup_seconds", "ready_seconds", "duration_seconds", "rate", "inserted", "events_per_second", "redis"),
    *("board_equals_reference", "lost", "doubled", "dead_letters", "rss_mib", "versions"),
}
FRESHNESS_KEYS = {"p50_ms", "p95_ms", "p99_ms", "max_ms", "samples"}


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A home of the demo's own, used again by the next demo; whatever fails, nothing of it stays."""
    folder = Path(tempfile.mkdtemp(prefix="engagement-demo-"))
    folder.chmod(0o755)
    yield folder
    down = JobProcess("stack", ("down", "--purge"), environment(folder), folder / "down.txt")
    down.start()
    down.wait(END_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)


def environment(home: Path) -> dict[str, str]:
    return {**host_environment(), "ENGAGEMENT_HOME": str(home)}


def demo(home: Path, said: str, *arguments: str) -> JobProcess:
    """A demo that writes what it says into a file of its own, so that nobody reads what an earlier one said."""
    return JobProcess("demo", arguments, environment(home), home / said)


def test_an_unattended_demo_ends_with_an_exact_board_and_its_report(home: Path) -> None:
    job = demo(home, "unattended.txt", "--duration", "20", "--rate", "200", "--report", str(home / "report.json"))
    job.start()
    try:
        assert job.wait(UNATTENDED_SECONDS) == 0, job.tail()
    finally:
        job.kill()
    report = json.loads((home / "report.json").read_text())
    assert report.keys() >= REPORT_KEYS
    assert report["redis"].keys() >= FRESHNESS_KEYS
    assert report["board_equals_reference"] is True
    assert (report["lost"], report["doubled"]) == (0, 0)
    assert report["rate"] == 200
    assert report["inserted"] >= 20 * 200 * 0.8
    assert report["redis"]["samples"] >= 10
    assert leftovers(home) == []


def test_ctrl_c_ends_a_demo_and_leaves_nothing_running_however_often_it_is_pressed(home: Path) -> None:
    job = demo(home, "interrupted.txt", "--rate", "50")
    job.start()
    try:
        await_that(lambda: " events/s" in job.text(), READY_SECONDS, lambda: f"no live summary\n{job.tail()}")
        assert job.is_alive, job.tail()
        job.interrupt(signal.SIGINT)
        await_that(lambda: "stopping the jobs" in job.text(), END_SECONDS, lambda: f"it goes on\n{job.tail()}")
        job.interrupt(signal.SIGINT)
        assert job.wait(END_SECONDS) == 0, job.tail()
    finally:
        job.kill()
    assert leftovers(home) == []
