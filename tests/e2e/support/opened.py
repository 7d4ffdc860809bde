"""A world for as long as a folder's tests take."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.e2e.support.world import World

_SHOWN = 20


@contextmanager
def opened(world: World, session: pytest.Session) -> Iterator[World]:
    """The world, open; its logs are kept when a test failed, or when they hold what no log may hold.

    That is looked at here, after the folder's last test, and fails as an error of it: whatever tests there were, and in
    whatever order, this sees all that was written.
    """
    is_sound = False
    try:
        world.open()
        yield world
        leaks = world.canaries().in_logs(world.home / "logs")
        assert not leaks, f"{world.home / 'logs'}:\n" + "\n".join(leaks[:_SHOWN])
        is_sound = not session.testsfailed
    finally:
        world.close(keep_logs=not is_sound)
