import doctest
from types import ModuleType

import pytest

from engagement import command, logs, retry
from engagement.settings import show, urls


@pytest.mark.parametrize("module", [command, logs, retry, show, urls], ids=lambda module: module.__name__)
def test_the_examples_in_docstrings_are_true(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
