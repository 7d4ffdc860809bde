"""Whatever happens to checkpoints: lake and warehouse hold each message once, the receiver all, and the board is equal.

Rows are only added to these tables, so what is lost or doubled stays so: one misfortune follows another, at different
places for the sinks, and all rows are compared with the topic at the end. The board forgets what leaves its window, so
it is compared after each of them.
"""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.support import checkpoints
from tests.e2e.support.processes import PATIENCE
from tests.e2e.support.warm import PausableJob
from tests.e2e.support.world import CATCH_UP_SECONDS, TABLES, World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400 * PATIENCE)]


@pytest.fixture(scope="module")
def pausable(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PausableJob]:
    """In place of the streaming job: what is asked here is what a run makes of its checkpoints, not how one dies."""
    world.stack.up()
    world.receiver.heal()
    world.job.kill()
    running = PausableJob(world, tmp_path_factory.mktemp("pausable") / "orders")
    running.start_and_wait()
    try:
        yield running
    finally:
        running.kill()


def test_damaged_checkpoints(world: World, pausable: PausableJob) -> None:
    """Each damage comes over each sink once, never the same over two of them at the same time."""
    order = random.sample(checkpoints.ALL, len(checkpoints.ALL))
    with world.watch():
        for turn in range(len(order)):
            with world.load():
                pausable.await_batches_of_all(1)
                pausable.pause()
                for place, sink in enumerate(("redis", *TABLES)):
                    order[(turn + place) % len(order)](pausable.checkpoint(sink))
                pausable.resume()
                pausable.await_batches(2)
            world.oracle.await_equality(CATCH_UP_SECONDS, least_events=500)
    world.await_equality()


def test_an_old_copy_of_the_checkpoints(world: World, pausable: PausableJob, tmp_path: Path) -> None:
    folder = pausable.checkpoint("redis").parent
    with world.watch():
        with world.load():
            pausable.await_batches_of_all(1)
            pausable.pause()
            shutil.copytree(folder, tmp_path / "old")
            pausable.resume()
            pausable.await_batches_of_all(2)
            pausable.pause()
            shutil.rmtree(folder)
            shutil.copytree(tmp_path / "old", folder)
            pausable.resume()
            pausable.await_batches_of_all(1)
        world.await_equality(least_events=500)
