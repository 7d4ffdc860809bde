"""One embedded stack and one streaming job for the whole session; tests take them as they are and leave them equal."""

from collections.abc import Iterator

import pytest
from tests.e2e.support.world import StreamJob, World


@pytest.fixture(scope="session")
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """The stack, up, with nothing but the connector reading it."""
    world, opened = World(), False
    try:
        world.open()
        opened = True
        yield world
    finally:
        world.close(keep_logs=not opened or bool(request.session.testsfailed))


@pytest.fixture
def job(world: World) -> StreamJob:
    """The streaming job, running, its board equal to the reference; reset when an earlier test left it otherwise."""
    world.redis.connection_pool.disconnect()  # a test that ran out of time may have left half an answer in it
    world.stack.up()
    world.job.ensure_running()
    try:
        world.oracle.await_equality(60, least_events=0)
    except AssertionError:
        world.job.kill()
        world.redis.flushall()
        world.job.start_and_wait()
        world.oracle.await_equality(60, least_events=0)
    return world.job
