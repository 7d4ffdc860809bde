"""Whatever happens to the driver: every sink ends as the reference says, nothing lost, nothing doubled."""

import random
import signal
import time
from pathlib import Path

import psutil
import pytest
from tests.e2e.support import checkpoints
from tests.e2e.support.processes import PATIENCE, await_that
from tests.e2e.support.world import CATCH_UP_SECONDS, START_SECONDS, TABLES, StreamJob, World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300 * PATIENCE)]

FAREWELL_SECONDS = 10
"""For Spark's JVM, which ends once its driver's Python has."""
MOST_AFTER_PLAN_SECONDS = {"redis": 0.15, **dict.fromkeys(TABLES, 1.5)}
"""Micro-batches take as long."""


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


def await_mid_batch(job: StreamJob, sink: str) -> None:
    """Return at a random moment after a micro-batch was planned and before it is noted as done."""
    checkpoint = job.checkpoint(sink)
    seen = checkpoints.numbers(checkpoint / "offsets")[-1]
    await_that(
        lambda: checkpoints.is_mid_batch(checkpoint) and checkpoints.numbers(checkpoint / "offsets")[-1] > seen,
        30,
        lambda: f"no micro-batch under way\n{job.tail()}",
    )
    time.sleep(random.uniform(0, MOST_AFTER_PLAN_SECONDS[sink]))


def test_a_driver_killed_in_the_middle_of_a_batch_loses_and_doubles_nothing(world: World, job: StreamJob) -> None:
    """While rows, letters, streams, requests or fence are on their way; the warehouse dies once too."""
    kills = random.sample([kill_everything, kill_everything, kill_python, kill_java], 4)
    with world.watch():
        for kill, sink in zip(kills, ("redis", *TABLES), strict=True):
            with world.load(rate=400):
                job.await_batches_of_all(1)
                await_mid_batch(job, sink)
                kill(job)
                job.start_and_wait()
                job.await_batches(2)
            world.oracle.await_equality(CATCH_UP_SECONDS, least_events=500)
        with world.load():
            await_mid_batch(job, "warehouse")
            world.kill("bigquery")
            assert world.stack.heal() == ["bigquery"]
            job.await_batches(1, "warehouse")
        assert job.is_alive
        world.await_equality()


def test_sigterm_finishes_the_batch_and_the_next_start_repeats_nothing(world: World, job: StreamJob) -> None:
    with world.load():
        job.await_batches_of_all(1)
        said_before = len(job.text())
        assert job.stop() == 0, job.tail()
    said = job.text()[said_before:]
    assert "ERROR" not in said, said
    assert "Traceback" not in said, said
    assert {sink: job.status(sink)["state"] for sink in job.sinks} == dict.fromkeys(job.sinks, "stopped")
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
    second = StreamJob(environment, world.redis, world.home / "logs" / "second.log", job.sinks)
    with world.watch():
        with world.load():
            second.start()
            try:
                second.await_batches_of_all(1, START_SECONDS)
                job.await_batches_of_all(1)
                assert second.stop() == 0, second.tail()
            finally:
                second.kill()
            job.await_batches(2)
        world.await_equality(least_events=500)
