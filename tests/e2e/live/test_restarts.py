"""Whatever happens to the driver: every sink ends as the reference says, nothing lost, nothing doubled."""

import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from tests.e2e.support import checkpoints
from tests.e2e.support.processes import PATIENCE, await_that
from tests.e2e.support.streams import START_SECONDS, Stream, StreamJob
from tests.e2e.support.world import CATCH_UP_SECONDS, TABLES, World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300 * PATIENCE)]

DAEMON = "engagement.worker_daemon"
FAREWELL_SECONDS = 10
"""For Spark's JVM, which ends once its driver's Python has."""
MOST_AFTER_PLAN_SECONDS = {"redis": 0.15, **dict.fromkeys(TABLES, 1.5)}
"""Micro-batches take as long."""


@pytest.fixture
def alone(world: World, job: Stream) -> Iterator[StreamJob]:
    """The streaming job as a process of its own, in place of the world's, which goes on from where this one ends."""
    world.without_job()
    running = StreamJob(world.job_environment(), world.redis, world.home / "logs" / "alone.log", job.sinks)
    running.start_and_wait()
    yield running
    running.kill()


def kill_everything(job: Stream) -> None:
    """Power loss."""
    job.kill()


def kill_python(job: Stream) -> None:
    """Only the driver's Python dies; its JVM has to notice."""
    job.process.interrupt(signal.SIGKILL)
    job.process.wait(10)
    psutil.wait_procs(job.process.family(), timeout=30)
    assert not job.process.family(), "the JVM lives on without its driver"


def kill_java(job: Stream) -> None:
    """Only the JVM dies; the driver's Python has to end by itself, as failed."""
    job.process.java().kill()
    assert job.process.wait(30) == 1, job.tail()
    psutil.wait_procs(job.process.family(), timeout=10)


def spark_workers(job: Stream) -> list[psutil.Process]:
    """Processes that run Spark's Python tasks: forked from its daemons, whose command line they keep."""

    def is_of_daemon(process: psutil.Process | None) -> bool:
        return process is not None and DAEMON in process.cmdline()

    found = []
    for process in job.process.family():
        with suppress(psutil.NoSuchProcess):  # an idle one ends by itself
            if is_of_daemon(process) and is_of_daemon(process.parent()):
                found.append(process)
    return found


def await_mid_batch(job: Stream, sink: str) -> None:
    """Return at a random moment after a micro-batch was planned and before it is noted as done."""
    checkpoint = job.checkpoint(sink)
    seen = checkpoints.numbers(checkpoint / "offsets")[-1]
    await_that(
        lambda: checkpoints.is_mid_batch(checkpoint) and checkpoints.numbers(checkpoint / "offsets")[-1] > seen,
        30,
        lambda: f"no micro-batch under way\n{job.tail()}",
    )
    time.sleep(random.uniform(0, MOST_AFTER_PLAN_SECONDS[sink]))


def test_a_driver_killed_in_the_middle_of_a_batch_loses_and_doubles_nothing(
    world: World, alone: Stream, job: Stream
) -> None:
    """While rows, letters, streams, requests or fence are on their way; the warehouse dies once too."""
    kills = random.sample([kill_everything, kill_everything, kill_python, kill_java], 4)
    heirs = [alone, alone, alone, job]
    with world.watch():
        for kill, sink, heir in zip(kills, ("redis", *TABLES), heirs, strict=True):
            with world.load(rate=400):
                alone.await_batches_of_all(1)
                await_mid_batch(alone, sink)
                kill(alone)
                heir.start_and_wait()
                heir.await_batches(2)
            world.oracle.await_equality(CATCH_UP_SECONDS, least_events=500)
        with world.load():
            await_mid_batch(job, "warehouse")
            world.kill("bigquery")
            assert world.stack.heal() == ["bigquery"]
            job.await_batches(1, "warehouse")
        assert job.is_alive
        world.await_equality()


def test_spark_workers_that_are_killed_in_the_middle_of_a_batch_cost_no_row(world: World, job: Stream) -> None:
    """All at once: tasks of every sink fail, or find that the worker they would take is gone."""
    with world.watch():
        with world.load(rate=400):
            job.await_batches_of_all(1)
            for sink in ("redis", "lake"):
                await_mid_batch(job, sink)
                victims = spark_workers(job)
                assert victims, "Spark has no workers"
                for victim in victims:
                    with suppress(psutil.NoSuchProcess):
                        victim.kill()
                job.await_batches(2)
            job.await_batches_of_all(1)
        world.await_equality(least_events=500)
    assert job.is_alive


def test_sigterm_finishes_the_batch_and_the_next_start_repeats_nothing(
    world: World, alone: StreamJob, job: Stream
) -> None:
    with world.load():
        alone.await_batches_of_all(1)
        said_before = len(alone.text())
        assert alone.stop() == 0, alone.tail()
    said = alone.text()[said_before:]
    assert "ERROR" not in said, said
    assert "Traceback" not in said, said
    assert {sink: alone.status(sink)["state"] for sink in alone.sinks} == dict.fromkeys(alone.sinks, "stopped")
    psutil.wait_procs(alone.process.family(), timeout=FAREWELL_SECONDS)
    assert not alone.process.family(), "left running"
    job.start_and_wait()
    world.oracle.await_equality(CATCH_UP_SECONDS)
    rows = job.status()["rows"]
    assert isinstance(rows, dict)
    assert rows["already_delivered"] == 0


def test_a_second_driver_on_the_same_checkpoint_is_refused(world: World, job: Stream) -> None:
    second = StreamJob(world.job_environment(), world.redis, world.home / "logs" / "second.log")
    second.start()
    try:
        assert second.process.wait(START_SECONDS) == 1, second.tail()
    finally:
        second.kill()
    assert "another streaming job is using the checkpoint" in second.text()
    assert job.is_alive
    world.oracle.await_equality(CATCH_UP_SECONDS)


def test_a_second_driver_with_a_checkpoint_of_its_own_does_no_harm(world: World, job: Stream, tmp_path: Path) -> None:
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
