"""The folder's stack and its streaming job, which tests take as they are and leave with every sink as it should be."""

from collections.abc import Iterator

import pytest
from tests.e2e.support.opened import opened
from tests.e2e.support.world import STATUS_KEY, TABLES, StreamJob, World


@pytest.fixture(scope="package")
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A stack, up, with a job that writes to every sink; it ends with the folder's last test."""
    with opened(World(("redis", *TABLES)), request.session) as world:
        yield world


@pytest.fixture
def job(world: World) -> StreamJob:
    """The streaming job, running, its board equal to the reference; reset when an earlier test left it otherwise."""
    world.redis.connection_pool.disconnect()  # a test that ran out of time may have left half an answer in it
    world.stack.up()
    world.receiver.heal()
    if not world.job.is_alive:
        world.redis.delete(STATUS_KEY)  # of other tests' jobs: whoever watches would miss their sign of life
        world.job.start_and_wait()
    try:
        world.oracle.await_equality(60, least_events=0)
    except AssertionError:
        world.job.kill()
        world.redis.flushall()
        world.job.start_and_wait()
        world.oracle.await_equality(60, least_events=0)
    return world.job
