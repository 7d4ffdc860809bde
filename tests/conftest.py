"""For all tests: which of them share a worker when pytest runs several, and no deadlines for Hypothesis."""

import sys

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from engagement.transform.json_text import RECURSION_LIMIT

# The transform raises it to this when it first runs; within an example of Hypothesis that would be a warning.
sys.setrecursionlimit(max(sys.getrecursionlimit(), RECURSION_LIMIT))

# How long an example takes says something about the machine only.
settings.register_profile("without a deadline", deadline=None)
settings.load_profile("without a deadline")

_CHAIN, _HISTORY, _STACKS = "tests/e2e/live", "tests/e2e/history", "tests/e2e"
_SPARK, _CONTRACT = "tests/spark", "tests/contract"
_FIRST = (_CHAIN, _HISTORY, _STACKS, _SPARK, _CONTRACT)
"""In this order, so that no worker is left alone with the longest part at the end."""


class _ByGroup(LoadScopeScheduling):  # type: ignore[misc] pytest-xdist has no types
    """Hands whole groups to workers; `loadgroup` goes by a suffix of node ids, which pytest 9.2 lets nobody add."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def group_of(nodeid: str) -> str:
    """Tests of a group run on one worker, one after the other.

    The running chain's share a stack, those over history another; others that start one, and Spark's tests, by file,
    since a worker keeps its Spark once it has one; unit tests wherever a worker is free.
    """
    file = nodeid.partition("::")[0]
    shared = next((folder for folder in (_CHAIN, _HISTORY, _CONTRACT) if file.startswith(f"{folder}/")), "")
    if shared:
        return shared
    return file if file.startswith((f"{_STACKS}/", f"{_SPARK}/")) else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> _ByGroup:
    """Several workers always go by groups."""
    return _ByGroup(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long groups first, folder by folder, and within these in whatever order the tests are otherwise."""
    if "bigquery_live" not in config.option.markexpr:  # they cost money: only when they are asked for
        items[:] = [item for item in items if not item.get_closest_marker("bigquery_live")]
    items.sort(key=lambda item: _turn(item.nodeid))


def _turn(nodeid: str) -> tuple[int, str]:
    folder = nodeid.partition("::")[0].rpartition("/")[0]  # a folder of its own ends with its stack
    return next((turn for turn, first in enumerate(_FIRST) if folder.startswith(first)), len(_FIRST)), folder
