"""The locks of the Python packages: each pins by checksum, and all of them pin alike."""

import re
from pathlib import Path

import pytest

CONF = Path(__file__).resolve().parents[2] / "conf"
LOCKS = ("requirements.lock", "requirements-spark.lock", "requirements-dev.lock", "requirements-java.lock")


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
