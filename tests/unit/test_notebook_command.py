"""`notebook` becomes JupyterLab, which the tests do not have: a module of its name says what it was given."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engagement.project import PROJECT

SAYS = "import os, sys; print(os.environ['LAKE_PATH'], *sys.argv[1:], sep='\\n')"


def run(tmp_path: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "jupyterlab.py").write_text(SAYS)
    paths = os.pathsep.join([str(tmp_path), str(PROJECT / "lib"), str(PROJECT)])
    return subprocess.run(
        [sys.executable, "-m", "jobs.notebook", *arguments],
        env={"PATH": os.defpath, "PYTHONPATH": paths, "LAKE_PATH": "/a lake", **more},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("arguments", [(), ("--no-browser",), ("--port", "9999")])
def test_it_serves_the_notebooks_to_this_machine_only(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    lake, *options, notebook = done.stdout.splitlines()
    assert lake == "/a lake"
    assert Path(notebook).is_file()
    assert {"--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={PROJECT / 'notebooks'}"} <= set(options)
    assert f"--ServerApp.port={9999 if '--port' in arguments else 8888}" in options
    assert ("--no-browser" in options) == ("--no-browser" in arguments)
    assert ("--allow-root" in options) == (os.geteuid() == 0)


def test_bad_settings_are_told_before_anything_starts(tmp_path: Path) -> None:
    done = run(tmp_path, REDIS_DB="many")
    assert done.returncode == 2
    assert "REDIS_DB" in done.stderr
    assert done.stdout == ""


def test_a_port_is_a_number(tmp_path: Path) -> None:
    assert run(tmp_path, "--port", "none").returncode == 2
