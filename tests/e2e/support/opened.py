"""A world for as long as a folder's tests take."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.e2e.support.world import World


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
