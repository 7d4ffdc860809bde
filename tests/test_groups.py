"""That tests which share something run on one worker: if they did not, they would only take longer."""

import re
import subprocess
import sys

from engagement.project import PROJECT

_TESTS_OF_A_GROUP = "tests/e2e/test_oracle.py"


def test_the_tests_of_a_group_run_on_one_worker() -> None:
    command = (sys.executable, "-m", "pytest", _TESTS_OF_A_GROUP, "-n", "2", "-v", "-p", "no:cacheprovider")
    told = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120, check=True).stdout
    workers = re.findall(r"^\[(gw\d)] .* PASSED", told, re.MULTILINE)
    assert len(workers) > 1
    assert len(set(workers)) == 1
