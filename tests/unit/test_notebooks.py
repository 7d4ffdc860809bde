"""The notebooks as they are committed: questions and pictures, no logic of their own, and nobody's results."""

import ast
from pathlib import Path

from tests.notebooks import NOTEBOOKS, code_cells, each, source_of

MOST_LINES, MOST_CHARACTERS = 10, 112
LOGIC = (ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.While, ast.If, ast.Try, ast.With)
MAY_IMPORT = {"engagement", "matplotlib", "pyspark"}


def test_there_is_a_notebook() -> None:
    assert [path.name for path in NOTEBOOKS] == ["explore_engagement.ipynb"]


@each
def test_results_are_stripped(path: Path) -> None:
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code_cells(path))


@each
def test_a_cell_is_short_and_holds_no_logic(path: Path) -> None:
    for cell in code_cells(path):
        found = [type(node).__name__ for node in ast.walk(ast.parse(source_of(cell))) if isinstance(node, LOGIC)]
        assert not found, source_of(cell)
        assert len(cell["source"]) <= MOST_LINES, source_of(cell)
        assert max(map(len, cell["source"])) <= MOST_CHARACTERS, source_of(cell)


@each
def test_it_imports_the_package_and_what_draws(path: Path) -> None:
    nodes = [node for cell in code_cells(path) for node in ast.walk(ast.parse(source_of(cell)))]
    modules = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    modules += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    assert {module.partition(".")[0] for module in modules} <= MAY_IMPORT
