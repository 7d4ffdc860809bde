"""The folder's stack and its streaming job, which tests take as they are and leave with every sink as it should be."""

from collections.abc import Iterator

import pytest
from tests.e2e.support.opened import opened
from tests.e2e.support.warm import PausableStream
from tests.e2e.support.world import TABLES, World


@pytest.fixture(scope="package")
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A stack, up, with a job that writes to every sink; it ends with the folder's last test."""
    with opened(World(("redis", *TABLES)), request.session) as world:
        world.begin()
        yield world


@pytest.fixture
def job(world: World) -> PausableStream:
    """The streaming job, running, its board equal to the reference."""
    return world.with_job()
