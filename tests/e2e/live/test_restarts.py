"""Whatever happens to the driver: the board equals the reference, nothing lost, nothing doubled.

What happens to checkpoints comes over all sinks, the board's too, in tests/e2e/tables.
"""

import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from tests.e2e.support import checkpoints
from tests.e2e.support.processes import PATIENCE, await_that
from tests.e2e.support.world import START_SECONDS, StreamJob, World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300 * PATIENCE)]

CATCH_UP_SECONDS = 60
FAREWELL_SECONDS = 10
"""For Spark's JVM, which ends once its driver's Python has."""
MOST_AFTER_PLAN_SECONDS = 0.15


def kill_everything(job: StreamJob) -> None:
    """Power loss."""
    job.kill()


def kill_python(job: StreamJob) -> None:
    """Only the driver's Python dies; its JVM has to notice."""
    job.interrupt(signal.SIGKILL)
    job.wait(10)
    psutil.wait_procs(job.family(), timeout=30)
    assert not job.family(), "the JVM lives on without its driver"


def kill_java(job: StreamJob) -> None:
    """Only the JVM dies; the driver's Python has to end by itself, as failed."""
    job.java().kill()
    assert job.wait(30) == 1, job.tail()
    psutil.wait_procs(job.family(), timeout=10)


def await_mid_batch(job: StreamJob) -> None:
    """Return at a random moment after a micro-batch was planned and before it is noted as done."""
    checkpoint = job.checkpoint("redis")
    seen = checkpoints.numbers(checkpoint / "offsets")[-1]
    await_that(
        lambda: checkpoints.is_mid_batch(checkpoint) and checkpoints.numbers(checkpoint / "offsets")[-1] > seen,
        30,
        lambda: f"no micro-batch under way\n{job.tail()}",
    )
    time.sleep(random.uniform(0, MOST_AFTER_PLAN_SECONDS))


@pytest.mark.parametrize("kill", [kill_everything, kill_python, kill_java])
def test_a_driver_killed_in_the_middle_of_a_batch_loses_and_doubles_nothing(
    world: World, job: StreamJob, kill: Callable[[StreamJob], None]
) -> None:
    with world.watch():
        with world.load(rate=400):
            job.await_batches(2)
            await_mid_batch(job)
            kill(job)
            job.start_and_wait()
            job.await_batches(2)
        world.oracle.await_equality(CATCH_UP_SECONDS, least_events=500)


def test_an_old_copy_of_the_checkpoint_loses_and_doubles_nothing(world: World, job: StreamJob, tmp_path: Path) -> None:
    with world.watch():
        with world.load():
            job.await_batches(2)
            assert job.stop() == 0, job.tail()
            shutil.copytree(job.checkpoint("redis"), tmp_path / "old")
            job.start_and_wait()
            job.await_batches(5)
            assert job.stop() == 0, job.tail()
            shutil.rmtree(job.checkpoint("redis"))
            shutil.copytree(tmp_path / "old", job.checkpoint("redis"))
            job.start_and_wait()
            job.await_batches(2)
        world.oracle.await_equality(CATCH_UP_SECONDS, least_events=500)


def test_sigterm_finishes_the_batch_and_the_next_start_repeats_nothing(world: World, job: StreamJob) -> None:
    with world.load():
        job.await_batches(2)
        said_before = len(job.text())
        assert job.stop() == 0, job.tail()
    said = job.text()[said_before:]
    assert "ERROR" not in said, said
    assert "Traceback" not in said, said
    assert job.status()["state"] == "stopped"
    psutil.wait_procs(job.family(), timeout=FAREWELL_SECONDS)
    assert not job.family(), "left running"
    job.start_and_wait()
    world.oracle.await_equality(CATCH_UP_SECONDS)
    rows = job.status()["rows"]
    assert isinstance(rows, dict)
    assert rows["already_delivered"] == 0


def test_a_second_driver_on_the_same_checkpoint_is_refused(world: World, job: StreamJob) -> None:
    second = StreamJob(world.job_environment(), world.redis, world.home / "logs" / "second.log")
    second.start()
    try:
        assert second.wait(START_SECONDS) == 1, second.tail()
    finally:
        second.kill()
    assert "another streaming job is using the checkpoint" in second.text()
    assert job.is_alive
    world.oracle.await_equality(CATCH_UP_SECONDS)


def test_a_second_driver_with_a_checkpoint_of_its_own_does_no_harm(
    world: World, job: StreamJob, tmp_path: Path
) -> None:
    environment = world.job_environment(CHECKPOINT_PATH=str(tmp_path))
    second = StreamJob(environment, world.redis, world.home / "logs" / "second.log")
    with world.watch():
        with world.load():
            second.start()
            try:
                await_that(lambda: second.commits() >= 3, START_SECONDS, lambda: f"no batches\n{second.tail()}")
                job.await_batches(2)
                assert second.stop() == 0, second.tail()
            finally:
                second.kill()
            job.await_batches(2)
        world.oracle.await_equality(CATCH_UP_SECONDS, least_events=500)
