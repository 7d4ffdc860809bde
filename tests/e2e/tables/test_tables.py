"""Whatever happens to driver, checkpoints and services: lake and warehouse hold each message once, the receiver all.

Rows are only added to these tables, so what is lost or doubled stays so: each test lets one misfortune follow another,
at different places for the sinks, and compares all rows with the topic at the end. The board forgets what leaves its
window, so it is compared after each misfortune that befell its checkpoint.
"""

import random
import shutil
import time
from pathlib import Path

import pytest
from tests.e2e.support import checkpoints
from tests.e2e.support.processes import PATIENCE, await_that
from tests.e2e.support.world import START_SECONDS, TABLES, StreamJob, World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400 * PATIENCE)]

CATCH_UP_SECONDS = 90
SINKS = ("redis", *TABLES)
LONGEST_BATCH_SECONDS = 1.5
ALL_SERVICES = ["bigquery", "receiver", "kafka", "redis", "postgres", "connect"]


@pytest.fixture
def job(tables_world: World) -> StreamJob:
    """The streaming job, running."""
    tables_world.stack.up()
    tables_world.job.ensure_running()
    return tables_world.job


def await_batches(job: StreamJob, count: int) -> None:
    for sink in TABLES:
        job.await_batches(count, sink)


def await_mid_batch(job: StreamJob, sink: str) -> None:
    checkpoint = job.checkpoint(sink)
    await_that(lambda: checkpoints.is_mid_batch(checkpoint), 30, lambda: f"no micro-batch under way\n{job.tail()}")
    time.sleep(random.uniform(0, LONGEST_BATCH_SECONDS))


def await_equality(world: World) -> None:
    world.lake.await_equality(CATCH_UP_SECONDS)
    world.warehouse.await_equality(CATCH_UP_SECONDS)
    world.receiver.await_equality(CATCH_UP_SECONDS)


def test_kills_in_the_middle_of_a_batch(tables_world: World, job: StreamJob) -> None:
    """Power loss while rows, letters, streams, requests or fence are on their way; the warehouse dies once too."""
    with tables_world.load():
        for sink in random.sample(TABLES, len(TABLES)):
            await_batches(job, 1)
            await_mid_batch(job, sink)
            job.kill()
            job.start_and_wait()
        await_mid_batch(job, "warehouse")
        tables_world.kill("bigquery")
        assert tables_world.stack.heal() == ["bigquery"]
        await_batches(job, 1)
    assert job.is_alive
    await_equality(tables_world)


def test_damaged_checkpoints(tables_world: World, job: StreamJob) -> None:
    """Each damage comes over each sink once, never the same over two of them at the same time."""
    order = random.sample(checkpoints.ALL, len(checkpoints.ALL))
    with tables_world.watch():
        for turn in range(len(order)):
            with tables_world.load():
                await_batches(job, 1)
                job.kill()
                for place, sink in enumerate(SINKS):
                    order[(turn + place) % len(order)](job.checkpoint(sink))
                job.start_and_wait()
                job.await_batches(2)
            tables_world.oracle.await_equality(CATCH_UP_SECONDS, least_events=500)
    await_equality(tables_world)


def test_an_old_copy_of_the_checkpoints(tables_world: World, job: StreamJob, tmp_path: Path) -> None:
    folder = job.checkpoint(TABLES[0]).parent
    with tables_world.load():
        await_batches(job, 1)
        assert job.stop() == 0, job.tail()
        shutil.copytree(folder, tmp_path / "old")
        job.start_and_wait()
        await_batches(job, 2)
        job.kill()
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "old", folder)
        job.start_and_wait()
        await_batches(job, 1)
    await_equality(tables_world)


def test_services_that_die_under_the_running_job(tables_world: World, job: StreamJob) -> None:
    with tables_world.load():
        for services in (["kafka"], ["postgres"], ["connect"], ALL_SERVICES):
            await_batches(job, 1)
            for service in services:
                tables_world.kill(service)
            tables_world.stack.up()
        await_batches(job, 2)
    assert job.is_alive
    await_equality(tables_world)


def test_two_drivers_at_once(tables_world: World, job: StreamJob, tmp_path: Path) -> None:
    environment = tables_world.job_environment(CHECKPOINT_PATH=str(tmp_path))
    second = StreamJob(environment, tables_world.redis, tables_world.home / "logs" / "second.log", TABLES)
    with tables_world.load():
        second.start()
        try:
            for sink in TABLES:
                second.await_batches(2, sink, START_SECONDS)
            await_batches(job, 2)
        finally:
            second.kill()
    await_equality(tables_world)
