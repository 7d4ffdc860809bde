"""Spark's Python workers: how one ends that nobody listens to any more."""

import subprocess
import sys

import pytest

_PROGRAM = """
from engagement.worker_daemon import ending_quietly

def worker(sock, authenticated):
    {ends}

print(ending_quietly(worker)("socket", True))
"""


@pytest.mark.parametrize(
    ("ends", "code", "said"),
    [
        ("raise BrokenPipeError(32, 'Broken pipe')", 1, (b"", b"")),
        ("return 0 if (sock, authenticated) == ('socket', True) else 7", 0, (b"0\n", b"")),
    ],
)
def test_a_worker_whose_jvm_is_gone_ends_without_a_word(ends: str, code: int, said: tuple[bytes, bytes]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(ends=ends)], capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, (done.stdout, done.stderr)) == (code, said)


def test_any_other_end_is_told() -> None:
    program = _PROGRAM.format(ends="raise OSError('another')")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    assert b"OSError: another" in done.stderr
