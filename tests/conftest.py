"""For all tests: which of them share a worker when pytest runs several, and no deadlines for Hypothesis."""

import sys
from pathlib import Path

import pytest
from hypothesis import settings

from engagement.transform.json_text import RECURSION_LIMIT

# The transform raises it to this when it first runs; within an example of Hypothesis that would be a warning.
sys.setrecursionlimit(max(sys.getrecursionlimit(), RECURSION_LIMIT))

# How long an example takes says something about the machine only.
settings.register_profile("without a deadline", deadline=None)
settings.load_profile("without a deadline")

_HERE = Path(__file__).parent
_STACKS = {
    "test_changes.py": "world",
    "test_dead_letters.py": "world",
    "test_restarts.py": "world",
    "test_services.py": "world",
    "test_external.py": "tables_world",
    "test_fuzz.py": "tables_world",
    "test_tables.py": "tables_world",
}
"""Modules that use a stack of the session's; the others of the folder make their own, one after the other."""
_FOLDERS = {"contract": "contract", "e2e": "stacks"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Name each test's group; unit tests have none and go wherever a worker is free."""
    if "bigquery_live" not in config.option.markexpr:  # they cost money: only when they are asked for
        items[:] = [item for item in items if not item.get_closest_marker("bigquery_live")]
    for item in items:
        folder, name = item.path.relative_to(_HERE).parts[0], item.path.name
        # A worker keeps its Spark once it has one, so that Spark's tests may be parted by file.
        group = name if folder == "spark" else _STACKS.get(name, _FOLDERS.get(folder))
        if group:
            item.add_marker(pytest.mark.xdist_group(group))
