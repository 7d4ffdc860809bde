"""The folder's stack, over which commands and streams of a test's own run, in two warm processes."""

from collections.abc import Iterator

import pytest
from tests.e2e.support.opened import opened
from tests.e2e.support.warm import WarmProcess
from tests.e2e.support.world import World


@pytest.fixture(scope="package")
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A stack, up; its streaming job runs for those who ask for it."""
    with opened(World(("redis",)), request.session) as world:
        yield world


@pytest.fixture(scope="package")
def warm(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmProcess]:
    """Where commands run, beside the streaming jobs of `world.process`."""
    running = WarmProcess(
        world.job_environment(), tmp_path_factory.mktemp("orders"), world.home / "logs" / "commands.log"
    )
    yield running
    running.kill()
