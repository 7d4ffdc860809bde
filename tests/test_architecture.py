"""The shape of the code: who may import whom, that importing does nothing, and that files stay readable."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
LIBRARY = PROJECT / "lib" / "engagement"
MOST_LINES = 260
JOB_MOST_LINES = 120
IMPORT_SECONDS = 120

LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "identity", "project", "schemas", "scoring", "small_frames", "terminal", "workers"})
    | {"meanwhile", "processes"},
    frozenset({"settings", "retry", "transform"}),
    frozenset({"logs", "session", "sources", "sinks.base", "sinks.spark_faults"}),
    frozenset({"sinks.outcomes", "sinks.held"}),
    frozenset({"sinks.source_log"}),
    frozenset({"sinks.delta"}),
    frozenset({"command", "sinks.bigquery", "sinks.external", "sinks.lake", "sinks.redis"}),
    frozenset({"dead_letters"}),
    frozenset({"delivery", "monitoring", "embedded", "generator"}),
    frozenset({"streaming", "demo", "worker_daemon"}),
    frozenset({"backfill", "exploration"}),
    frozenset({"reconcile"}),
    frozenset({"benchmark"}),
    frozenset({"jobs"}),
)
"""A part imports parts of lower layers only, never of its own layer or above."""

PURE = {
    "transform": {"pyspark", "pyarrow", "numpy", "schemas", "scoring", "workers"},
    "schemas": {"pyspark"},
    "scoring": {"pyarrow", "numpy"},
    "identity": set(),
    "errors": set(),
}
"""Parts that may import nothing but these (and the harmless half of the standard library)."""

HARMLESS = {
    "json",
    "re",
    "sys",
    "hashlib",
    "datetime",
    "collections",
    "dataclasses",
    "decimal",
    "enum",
    "functools",
    "itertools",
    "operator",
    "pathlib",
    "typing",
    "weakref",
}
NEVER = {
    *(("sinks.redis", part) for part in ("sources", "settings")),
    *(("sinks.lake", part) for part in ("sources", "settings")),
    *(("sinks.external", part) for part in ("sources", "settings")),
    *(("sinks.delta", part) for part in ("sources", "settings")),
    *(("sinks.bigquery", part) for part in ("sources", "settings")),
    *(("sources", "settings"), ("delivery", "settings")),
}
"""Further directions that the layers would allow: these parts are told what they need."""

_PROBE = PROJECT / "tests" / "import_probe.py"


def part_of(module: str) -> str:
    """The part that a module belongs to: `engagement.sinks.redis.writer` -> `sinks.redis`, `jobs.stream` -> `jobs`."""
    names = module.split(".")
    if names[0] == "jobs" or len(names) == 1:
        return names[0]
    return ".".join(names[1:3]) if names[1] == "sinks" and len(names) > 2 else names[1]


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the library and of the jobs, by name."""
    for root in (LIBRARY, PROJECT / "jobs"):
        for path in sorted(root.rglob("*.py")):
            names = path.relative_to(root.parent).with_suffix("").parts
            yield ".".join(names).removesuffix(".__init__"), path


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports anywhere, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides which layer it reaches into"
            module = node.module or ""
            bare = module in {"engagement", "engagement.sinks"}
            yield from (f"{module}.{alias.name}" for alias in node.names) if bare else (module,)


def is_ours(module: str) -> bool:
    return module.split(".", maxsplit=1)[0] in {"engagement", "jobs"}


def test_every_part_has_a_layer() -> None:
    known = frozenset().union(*LAYERS) | {"engagement", "sinks"}
    found = {part_of(module) for module, _ in modules()}
    assert found <= known, f"new parts need a layer in this test: {sorted(found - known)}"


def test_imports_point_downwards_only() -> None:
    height = {part: number for number, layer in enumerate(LAYERS) for part in layer}
    wrong = [
        f"{module} -> {target}"
        for module, path in modules()
        for target in imported(path)
        if is_ours(target)
        and part_of(target) != part_of(module)
        and (height[part_of(target)] >= height[part_of(module)] or (part_of(module), part_of(target)) in NEVER)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_core_is_pure() -> None:
    wrong = []
    for module, path in modules():
        allowed = PURE.get(part_of(module))
        if allowed is None:
            continue
        for target in imported(path):
            name = part_of(target) if is_ours(target) else target.split(".")[0]
            if name not in allowed | HARMLESS | {part_of(module)}:
                wrong.append(f"{module} -> {target}")
    assert not wrong, "\n".join(wrong)


def test_only_streaming_demo_and_jobs_put_parts_together() -> None:
    first = next(number for number, layer in enumerate(LAYERS) if "streaming" in layer)
    composing = frozenset().union(*LAYERS[first:])
    edges = {"settings"}
    wrong = [
        module
        for module, path in modules()
        if part_of(module) not in composing
        and {"sources", "sinks.redis"} <= {part_of(t) for t in imported(path) if is_ours(t)} - edges
    ]
    assert not wrong, f"these modules know source and sink: {wrong}"


def test_importing_any_module_does_nothing() -> None:
    """Each module is imported alone, in a process forked after the libraries: no I/O, no thread, no global change."""
    names = [module for module, _ in modules()]
    done = subprocess.run(
        [sys.executable, str(_PROBE), *names],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": f"{PROJECT / 'lib'}{os.pathsep}{PROJECT}", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, timeout=IMPORT_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # The last line: a library of ours prints while it loads.
    effects: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    assert sorted(effects) == sorted(names)
    assert {module: found for module, found in effects.items() if found} == {}


@pytest.mark.parametrize(("folder", "most"), [(LIBRARY, MOST_LINES), (PROJECT / "jobs", JOB_MOST_LINES)], ids=str)
def test_files_stay_short(folder: Path, most: int) -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in folder.rglob("*.py")}
    assert {str(path.relative_to(PROJECT)): length for path, length in lengths.items() if length > most} == {}
