"""Embedded stacks with a streaming job for the whole session; tests take them as they are and leave them equal.

Two, so that pytest's two workers can prove things at the same time: see tests/conftest.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.e2e.support.world import TABLES, StreamJob, World


@pytest.fixture(scope="session")
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A stack, up, with a job that writes to Redis."""
    with opened(World(("redis",)), request.session) as world:
        yield world


@pytest.fixture(scope="session")
def tables_world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A stack, up, with a job that writes to warehouse and lake."""
    with opened(World(TABLES), request.session) as world:
        yield world


@contextmanager
def opened(world: World, session: pytest.Session) -> Iterator[World]:
    """The world, open; its logs are kept when a test failed."""
    is_open = False
    try:
        world.open()
        is_open = True
        yield world
    finally:
        world.close(keep_logs=not is_open or bool(session.testsfailed))


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
