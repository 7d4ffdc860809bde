"""The locks of the Python packages: each pins by checksum, and all of them pin alike."""

import re
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CONF = Path(__file__).resolve().parents[2] / "conf"
LOCKS = (
    "requirements.lock",
    "requirements-spark.lock",
    "requirements-dev.lock",
    "requirements-java.lock",
    "requirements-build.lock",
    "requirements-notebook.lock",
)


def pins(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", (CONF / lock).read_text(), re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS)
def test_each_package_has_a_checksum_and_none_an_address(lock: str) -> None:
    text = (CONF / lock).read_text()
    assert len(re.findall(r"^\S+==\S+ \\\n +--hash=sha256:[0-9a-f]{64}", text, re.MULTILINE)) == len(pins(lock)) > 0
    assert "://" not in text


def test_the_jobs_and_spark_are_pinned_in_one_lock_each_and_alike_in_that_of_the_tests() -> None:
    jobs, spark, tests = (pins(lock) for lock in LOCKS[:3])
    assert not jobs.keys() & spark.keys()
    assert (jobs | spark).items() <= tests.items()


def test_notebooks_leave_the_packages_of_jobs_and_tests_as_they_are() -> None:
    tests, notebooks = pins("requirements-dev.lock"), pins("requirements-notebook.lock")
    both = notebooks.keys() & tests
    assert {name: notebooks[name] for name in both} == {name: tests[name] for name in both}
    assert "jupyterlab" in notebooks


def test_the_wheel_of_spark_is_made_by_the_setuptools_of_the_jobs() -> None:
    """Which are installed beside it, and would replace another one in the middle of its work."""
    tools, jobs = pins("requirements-build.lock"), pins("requirements.lock")
    assert tools["setuptools"] == jobs["setuptools"]


@pytest.mark.parametrize("python", ["3.11.0", "3.11.2", "3.11.99"])
def test_the_locks_hold_what_any_python_3_11_needs(python: str) -> None:
    """Packages ask for others by the Python's last figure too: that of Debian 12 is 3.11.2."""
    locked = {**pins("requirements.lock"), **pins("requirements-spark.lock")}
    there = {**default_environment(), "python_full_version": python, "extra": ""}
    needed = [Requirement(line) for name in locked for line in requires(name) or ()]
    names = {canonicalize_name(one.name) for one in needed if one.marker is None or one.marker.evaluate(there)}
    assert names - locked.keys() == set()
