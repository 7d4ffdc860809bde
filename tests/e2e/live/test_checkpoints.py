"""Whatever happens to checkpoints: lake and warehouse hold each message once, the receiver all, and the board is equal.

Rows are only added to these tables, so what is lost or doubled stays so: one misfortune follows another, at different
places for the sinks, and all rows are compared with the topic at the end. The board forgets what leaves its window, so
it is compared after each of them.
"""

import random
import shutil
from pathlib import Path

import pytest
from tests.e2e.support import checkpoints
from tests.e2e.support.processes import PATIENCE
from tests.e2e.support.warm import PausableStream
from tests.e2e.support.world import CATCH_UP_SECONDS, TABLES, World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400 * PATIENCE)]


def test_damaged_checkpoints(world: World, job: PausableStream) -> None:
    """Each damage comes over each sink once, never the same over two of them at the same time."""
    order = random.sample(checkpoints.ALL, len(checkpoints.ALL))
    with world.watch():
        for turn in range(len(order)):
            with world.load():
                job.await_batches_of_all(1)
                assert job.stop() == 0, job.tail()
                for place, sink in enumerate(("redis", *TABLES)):
                    order[(turn + place) % len(order)](job.checkpoint(sink))
                job.start_and_wait()
                job.await_batches(2)
            world.oracle.await_equality(CATCH_UP_SECONDS, least_events=500)
    world.await_equality()


def test_an_old_copy_of_the_checkpoints(world: World, job: PausableStream, tmp_path: Path) -> None:
    folder = job.checkpoint("redis").parent
    with world.watch():
        with world.load():
            job.await_batches_of_all(1)
            assert job.stop() == 0, job.tail()
            shutil.copytree(folder, tmp_path / "old")
            job.start_and_wait()
            job.await_batches_of_all(2)
            assert job.stop() == 0, job.tail()
            shutil.rmtree(folder)
            shutil.copytree(tmp_path / "old", folder)
            job.start_and_wait()
            job.await_batches_of_all(1)
        world.await_equality(least_events=500)
