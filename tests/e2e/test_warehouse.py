"""Whatever happens to driver, checkpoint and services: the warehouse holds each row version of the topic once."""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.e2e.support import checkpoints
from tests.e2e.support.processes import PATIENCE, await_that
from tests.e2e.support.world import START_SECONDS, StreamJob, World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300 * PATIENCE)]

CATCH_UP_SECONDS = 60
LONGEST_BATCH_SECONDS = 1.0
BOTH = "redis,warehouse"
Misfortune = Callable[[World, StreamJob], None]


@pytest.fixture
def both(world: World, job: StreamJob) -> Iterator[StreamJob]:
    """The streaming job with both sinks, in the place of the one that writes to Redis only."""
    assert job.stop() == 0, job.tail()
    running = StreamJob(world.job_environment(), world.redis, world.home / "logs" / "both.log", BOTH)
    running.start_and_wait()
    try:
        yield running
    finally:
        running.kill()


def await_mid_batch(job: StreamJob) -> None:
    checkpoint = job.checkpoint("warehouse")
    await_that(lambda: checkpoints.is_mid_batch(checkpoint), 30, lambda: f"no micro-batch under way\n{job.tail()}")
    time.sleep(random.uniform(0, LONGEST_BATCH_SECONDS))


def kill_the_driver_in_the_middle_of_a_batch(_world: World, job: StreamJob) -> None:
    """Power loss while streams, claim or commit are on their way."""
    await_mid_batch(job)
    job.kill()
    job.start_and_wait()


def kill_the_warehouse_in_the_middle_of_a_batch(world: World, job: StreamJob) -> None:
    """Its streams go with it, whatever the fence's claim says."""
    await_mid_batch(job)
    world.kill("bigquery")
    assert world.stack.heal() == ["bigquery"]


def lose_the_last_commits(_world: World, job: StreamJob) -> None:
    job.kill()
    checkpoints.lose_last_two_commits(job.checkpoint("warehouse"))
    job.start_and_wait()


def believe_too_much(_world: World, job: StreamJob) -> None:
    job.kill()
    checkpoints.raise_offsets(job.checkpoint("warehouse"))
    job.start_and_wait()


def lose_the_checkpoint_and_every_service(world: World, job: StreamJob) -> None:
    for service in ("bigquery", "kafka", "redis", "postgres", "connect"):
        world.kill(service)
    job.kill()
    checkpoints.lose_everything(job.checkpoint("warehouse"))
    world.stack.up()
    job.start_and_wait()


@pytest.mark.parametrize(
    "misfortune",
    [
        kill_the_driver_in_the_middle_of_a_batch,
        kill_the_warehouse_in_the_middle_of_a_batch,
        lose_the_last_commits,
        believe_too_much,
        lose_the_checkpoint_and_every_service,
    ],
)
def test_the_warehouse_holds_each_row_version_of_the_topic_once(
    world: World, both: StreamJob, misfortune: Misfortune
) -> None:
    with world.load(rate=400):
        both.await_batches(2, "warehouse")
        misfortune(world, both)
        both.await_batches(1, "warehouse")
    world.warehouse.await_equality(CATCH_UP_SECONDS)
    world.oracle.await_equality(CATCH_UP_SECONDS, least_events=500)


def test_two_drivers_at_once_write_each_row_version_once(world: World, both: StreamJob, tmp_path: Path) -> None:
    environment = world.job_environment(CHECKPOINT_PATH=str(tmp_path))
    second = StreamJob(environment, world.redis, world.home / "logs" / "second.log", "warehouse")
    with world.load():
        second.start()
        try:
            await_that(lambda: second.commits("warehouse") >= 2, START_SECONDS, lambda: f"none\n{second.tail()}")
            both.await_batches(2, "warehouse")
        finally:
            second.kill()
    world.warehouse.await_equality(CATCH_UP_SECONDS)
