"""Killed while a slow sink is being written: lake and warehouse hold each message of the topic once.

What happens to checkpoints and services is proven for these sinks too, in test_restarts.py and test_services.py.
"""

import random
import time

import pytest
from tests.e2e.support import checkpoints
from tests.e2e.support.processes import PATIENCE, await_that
from tests.e2e.support.world import TABLES, StreamJob, World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300 * PATIENCE)]

CATCH_UP_SECONDS = 60
LONGEST_BATCH_SECONDS = 1.5


def await_mid_batch(job: StreamJob, sink: str) -> None:
    checkpoint = job.checkpoint(sink)
    await_that(lambda: checkpoints.is_mid_batch(checkpoint), 30, lambda: f"no micro-batch under way\n{job.tail()}")
    time.sleep(random.uniform(0, LONGEST_BATCH_SECONDS))


@pytest.mark.parametrize("sink", TABLES)
def test_a_driver_killed_while_a_table_is_written_writes_each_message_once(
    world: World, job: StreamJob, sink: str
) -> None:
    """Power loss while rows, dead letters, claim or fence are on their way."""
    with world.load(rate=400):
        job.await_batches(1, sink)
        await_mid_batch(job, sink)
        job.kill()
        job.start_and_wait()
        job.await_batches(1, sink)
    world.await_equality(CATCH_UP_SECONDS, least_events=500)


def test_a_warehouse_killed_in_the_middle_of_a_batch_holds_each_row_version_once(world: World, job: StreamJob) -> None:
    """Its streams go with it, whatever the fence's claim says."""
    with world.load(rate=400):
        job.await_batches(1, "warehouse")
        await_mid_batch(job, "warehouse")
        world.kill("bigquery")
        assert world.stack.heal() == ["bigquery"]
        job.await_batches(1, "warehouse")
    assert job.is_alive
    world.await_equality(CATCH_UP_SECONDS)
