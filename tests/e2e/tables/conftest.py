"""The folder's stack and its streaming job, which tests take as they are and leave equal to the topic."""

from collections.abc import Iterator

import pytest
from tests.e2e.support.opened import opened
from tests.e2e.support.world import TABLES, World


@pytest.fixture(scope="package")
def tables_world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A stack, up, with a job that writes to every sink; it ends with the last test."""
    with opened(World(("redis", *TABLES)), request.session) as world:
        yield world
