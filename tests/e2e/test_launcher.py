"""spark-submit.sh on its own: what it prepares, when it does so again, and what it hands over.

The project around it is a small one with a space in its path, and `python3.11` is a script that writes down what it is
asked to do. The real set-up, with its downloads, is what a fresh clone runs.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest
from tests.e2e.support.processes import await_that

PROJECT = Path(__file__).resolve().parents[2]
LOCKS = ("requirements-build.lock", "requirements.lock", "requirements-spark.lock")
MORE_LOCKS = ("requirements-dev.lock", "requirements-java.lock", "requirements-notebook.lock")
FAKE_PYTHON = """#!/bin/bash
echo "$*" >> "$CALLS"
case "$1 $2" in
  "-m venv") mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
  "-m pip")
    if [[ $3 == "${SLOW:-}" ]]; then echo $$ >"$SLOW_PID"; exec sleep 60; fi
    for missing in ${MISSING:-}; do
      if [[ $* == *"/$missing" ]]; then echo "no network"; exit 1; fi
    done ;;
  "-m engagement.embedded.java")
    [[ -f $JAVA_MARK ]] || { touch "$JAVA_MARK"; exit 1; }
    echo "${JAVA_HOME:-$JAVA_FOUND}" ;;
  "-m engagement.embedded.class_archive")
    if [[ ${SLOW:-} == archive ]]; then echo $$ >"$SLOW_PID"; exec sleep 60; fi
    [[ -z ${NO_ARCHIVE:-} ]] || exit 1 ;;
  "-m jobs.show") shift 2; printf '<%s>' "$@"; echo; env; exit "${SHOW_EXIT:-0}" ;;
esac
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project, a Python that takes notes, and a Java that is there."""
    project = tmp_path / "my project"
    for folder in ("conf", "jobs", "lib"):
        (project / folder).mkdir(parents=True)
    shutil.copy(PROJECT / "spark-submit.sh", project)
    for name in (*LOCKS, *MORE_LOCKS, "jars.lock"):
        (project / "conf" / name).write_text(f"{name}\n")
    (project / "jobs" / "show.py").write_text("")
    (project / "jobs" / "stack.py").write_text("")
    python = tmp_path / "bin" / "python3.11"
    python.parent.mkdir()
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)
    (tmp_path / "java").touch()
    add_java(tmp_path / "found java")
    return project


def add_java(home: Path) -> Path:
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "java").touch(0o755)
    return home


def environment(project: Path, **more: str) -> dict[str, str]:
    outside = project.parent
    paths = f"{outside / 'bin'}:{os.defpath}:/usr/bin:/bin"
    java = {"JAVA_MARK": str(outside / "java"), "JAVA_FOUND": str(outside / "found java")}
    return {"PATH": paths, "CALLS": str(outside / "calls"), **java, **more}


def start(project: Path, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [project / "spark-submit.sh", *arguments],
        env=env or environment(project),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def calls(project: Path) -> list[str]:
    """What Python was asked to do, apart from saying its version."""
    path = project.parent / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in lines if not line.startswith("-c ")]


def test_help_lists_the_commands_that_exist(project: Path) -> None:
    answer = start(project, "--help")
    assert answer.returncode == 0
    assert "  stack " in answer.stdout
    assert "  demo " not in answer.stdout


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["../stack"], ["--verbose"]])
def test_bad_usage_ends_with_2_and_the_usage(project: Path, arguments: list[str]) -> None:
    answer = start(project, *arguments)
    assert answer.returncode == 2
    assert "usage: ./spark-submit.sh" in answer.stderr
    assert calls(project) == []


def test_the_first_start_sets_up_and_the_second_goes_straight_to_the_job(project: Path) -> None:
    start(project, "show")
    first = calls(project)
    start(project, "show")
    assert [line.split()[1] for line in first] == [
        "venv",
        *["pip"] * 4,
        "engagement.embedded.java",
        "engagement.embedded.jars",
        "engagement.embedded.class_archive",
        "jobs.show",
    ]
    assert calls(project)[len(first) :] == ["-m jobs.show"]


def test_without_an_archive_of_classes_jobs_start_all_the_same(project: Path) -> None:
    answer = start(project, "show", env=environment(project, NO_ARCHIVE="1"))
    assert answer.returncode == 0
    assert "jobs start without it" in answer.stderr
    assert calls(project)[-1] == "-m jobs.show"


def test_packages_of_the_tests_that_cannot_be_had_leave_the_set_up_of_the_jobs(project: Path) -> None:
    assert start(project, "test", env=environment(project, MISSING="requirements-dev.lock")).returncode == 1
    before = len(calls(project))
    assert start(project, "show").returncode == 0
    assert calls(project)[before:] == ["-m jobs.show"]


def test_another_java_gets_an_archive_of_its_own(project: Path, tmp_path: Path) -> None:
    start(project, "show")
    for java, archives in ((tmp_path / "found java", 1), (add_java(tmp_path / "another java"), 2)):
        start(project, "show", env=environment(project, JAVA_HOME=str(java)))
        assert sum("class_archive" in line for line in calls(project)) == archives


def test_a_java_that_an_update_has_moved_is_looked_for_again(project: Path, tmp_path: Path) -> None:
    start(project, "show")
    (tmp_path / "found java").rename(tmp_path / "updated java")
    env = environment(project, JAVA_FOUND=str(tmp_path / "updated java"))
    for _ in range(2):
        assert f"JAVA_HOME={tmp_path / 'updated java'}" in start(project, "show", env=env).stdout.splitlines()
    assert sum("embedded.java" in line for line in calls(project)) == 2


def test_packages_are_installed_by_hash_only(project: Path) -> None:
    start(project, "show")
    asked = [line for line in calls(project) if line.startswith("-m pip")]
    locked = [line for line in asked if "--require-hashes" in line]
    assert {line.split("conf/")[-1] for line in locked} == set(LOCKS)
    assert [("--no-index" in line, line.endswith(".whl")) for line in asked if line not in locked] == [(True, True)]


def test_arguments_and_the_exit_code_pass_through(project: Path) -> None:
    answer = start(project, "show", "two words", "", "--x=*", env=environment(project, SHOW_EXIT="7"))
    assert answer.returncode == 7
    assert answer.stdout.splitlines()[0] == "<two words><><--x=*>"


def test_the_job_sees_our_python_java_and_time_zone_and_no_other_spark(project: Path) -> None:
    answer = start(
        project,
        "show",
        env=environment(
            project,
            SPARK_HOME="/opt/spark",
            SPARK_DIST_CLASSPATH="/opt/spark/*",
            PYTHONPATH="/elsewhere",
            TZ="Asia/Riyadh",
        ),
    )
    lines = set(answer.stdout.splitlines())
    assert {
        "TZ=UTC",
        f"JAVA_HOME={project.parent / 'found java'}",
        f"PYTHONPATH={project}/lib:{project}",
        f"PYSPARK_PYTHON={project}/.venv/bin/python",
    } <= lines
    assert not any(line.startswith(("SPARK_HOME=", "SPARK_DIST_CLASSPATH=")) for line in lines)


def test_it_finds_its_project_through_a_link(project: Path, tmp_path: Path) -> None:
    link = tmp_path / "engagement"
    link.symlink_to(project / "spark-submit.sh")
    answer = subprocess.run([link, "show"], env=environment(project), capture_output=True, text=True, check=True)
    assert f"PYTHONPATH={project}/lib:{project}" in answer.stdout.splitlines()


def test_an_interrupted_set_up_starts_over_and_keeps_the_jars(project: Path) -> None:
    start(project, "show", env=environment(project, MISSING="requirements.lock requirements-spark.lock"))
    (project / ".venv" / "half").touch()
    (project / ".venv" / "jars").mkdir()
    answer = start(project, "show")
    assert answer.returncode == 0
    assert not (project / ".venv" / "half").exists()
    assert (project / ".venv" / "jars").exists()


@pytest.mark.parametrize("missing", LOCKS)
def test_a_failed_set_up_shows_why_and_does_not_start_the_job(project: Path, missing: str) -> None:
    answer = start(project, "show", env=environment(project, MISSING=missing))
    assert answer.returncode == 1
    assert "no network" in answer.stderr
    assert f"setup-{missing.removesuffix('.lock')}.log" in answer.stderr.splitlines()[-2]
    assert not any("jobs.show" in line for line in calls(project))


@pytest.mark.parametrize("slow", ["wheel", "archive"])
def test_ctrl_c_ends_also_what_a_set_up_does_beside(project: Path, tmp_path: Path, slow: str) -> None:
    noted = tmp_path / "slow"
    env = environment(project, SLOW=slow, SLOW_PID=str(noted))
    # Whoever runs the tests in the background has them ignore Ctrl-C, and all that they start.
    command = ["env", "--default-signal=INT", str(project / "spark-submit.sh"), "show"]
    with subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            await_that(lambda: noted.exists() and bool(noted.read_text()), 30, "it does not begin")
            beside = psutil.Process(int(noted.read_text()))
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(30) != 0
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    psutil.wait_procs([beside], timeout=10)
    assert not beside.is_running()


@pytest.mark.parametrize("name", [*LOCKS, "jars.lock"])
def test_a_changed_lock_is_installed(project: Path, name: str) -> None:
    start(project, "show")
    (project / "conf" / name).write_text("changed\n")
    before = len(calls(project))
    start(project, "show")
    assert any("pip install" in line for line in calls(project)[before:])


@pytest.mark.parametrize(
    ("name", "wheels"), [("requirements.lock", 0), ("jars.lock", 0), ("requirements-spark.lock", 1)]
)
def test_the_wheel_of_spark_is_made_again_for_another_spark_only(project: Path, name: str, wheels: int) -> None:
    start(project, "show")
    (project / "conf" / name).write_text("changed\n")
    before = len(calls(project))
    start(project, "show")
    assert sum("pip wheel" in line for line in calls(project)[before:]) == wheels


def test_java_is_fetched_only_when_there_is_none(project: Path, tmp_path: Path) -> None:
    start(project, "show")
    assert not any("requirements-java.lock" in line for line in calls(project))
    shutil.rmtree(project / ".venv")
    (tmp_path / "java").unlink()
    start(project, "show")
    assert any("requirements-java.lock" in line for line in calls(project))


def test_two_first_starts_at_once_set_up_once(project: Path) -> None:
    command = [str(project / "spark-submit.sh"), "show"]
    both = [subprocess.Popen(command, env=environment(project), stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert sum("-m venv" in line for line in calls(project)) == 1
    assert sum("jobs.show" in line for line in calls(project)) == 2


def test_without_python_3_11_the_message_says_how_to_get_it(project: Path, tmp_path: Path) -> None:
    (tmp_path / "bin" / "python3.11").unlink()
    for tool in ("bash", "readlink", "dirname", "cat", "sha256sum", "flock", "mkdir", "touch", "env"):
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / "bin" / tool).symlink_to(found)
    answer = start(project, "show", env={**environment(project), "PATH": str(tmp_path / "bin")})
    assert answer.returncode == 1
    assert "Python 3.11" in answer.stderr


def test_test_runs_pytest_in_the_project_with_the_packages_for_it(project: Path) -> None:
    start(project, "test", "-k", "one thing")
    assert calls(project)[-1] == "-m pytest -k one thing"
    assert any(line.endswith("requirements-dev.lock") for line in calls(project))


def test_jupyter_is_installed_for_the_command_that_needs_it(project: Path) -> None:
    (project / "jobs" / "notebook.py").write_text("")
    start(project, "show")
    assert not any("requirements-notebook.lock" in line for line in calls(project))
    for _ in range(2):
        start(project, "notebook", "--no-browser")
    assert sum(line.endswith("requirements-notebook.lock") for line in calls(project)) == 1
    assert calls(project)[-1] == "-m jobs.notebook --no-browser"
