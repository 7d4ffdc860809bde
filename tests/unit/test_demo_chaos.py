"""What breaks a demo, against processes that do nothing else."""

import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import islice

import psutil
import pytest
from tests.e2e.support.processes import await_that

from engagement.demo.chaos import FAULTS, Chaos, Fault
from engagement.embedded.stack import SERVICES
from engagement.meanwhile import meanwhile

SECONDS = 30
FAMILY = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "worker"])
print("ready", flush=True)
input()
"""


@pytest.fixture
def victim() -> Iterator[psutil.Process]:
    """A process with one below it."""
    with subprocess.Popen([sys.executable, "-c", FAMILY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = psutil.Process(process.pid)
        family = [found, *found.children(recursive=True)]
        yield found
        for each in family:
            if each.is_running():
                each.kill()


def chaos(victim: psutil.Process, said: list[str], seed: int = 1) -> Chaos:
    return Chaos(lambda: {"victim": victim.pid, "gone": None}, random.Random(seed), said.append, (0.0, 0.0))


def is_over(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def statuses(process: psutil.Process) -> set[str]:
    return {each.status() for each in (process, *process.children(recursive=True))}


def test_what_is_killed_is_the_first_process_only(victim: psutil.Process) -> None:
    said: list[str] = []
    (child,) = victim.children()
    chaos(victim, said).inflict(Fault("victim"), threading.Event())
    await_that(lambda: is_over(victim), SECONDS, "it lives")
    assert not is_over(child)
    assert said == ["chaos: victim is killed"]


def test_of_a_part_the_process_below_is_killed(victim: psutil.Process) -> None:
    said: list[str] = []
    (child,) = victim.children()
    chaos(victim, said).inflict(Fault("victim", part="worker"), threading.Event())
    await_that(lambda: is_over(child), SECONDS, "it lives")
    assert not is_over(victim)
    assert said == ["chaos: a process worker of victim is killed"]


def test_what_is_paused_is_all_of_it_and_goes_on_when_told_to_stop(victim: psutil.Process) -> None:
    said: list[str] = []
    stop = threading.Event()
    inflicting = threading.Thread(
        target=chaos(victim, said).inflict, args=(Fault("victim", pause_seconds=600.0), stop), daemon=True
    )
    inflicting.start()
    await_that(lambda: statuses(victim) == {psutil.STATUS_STOPPED}, SECONDS, "it runs")
    stop.set()
    inflicting.join(SECONDS)
    await_that(lambda: psutil.STATUS_STOPPED not in statuses(victim), SECONDS, "it is paused")
    assert said == ["chaos: victim is paused for 600 s"]


@pytest.mark.parametrize("fault", [Fault("gone"), Fault("unheard of"), Fault("victim", part="no such part")])
def test_what_does_not_run_is_left_alone(victim: psutil.Process, fault: Fault) -> None:
    said: list[str] = []
    chaos(victim, said).inflict(fault, threading.Event())
    assert not is_over(victim)
    assert said == []


def order(seed: int, victims: int) -> list[Fault]:
    """Two rounds of faults, each of which hits somebody among so many."""
    chance = random.Random(seed)
    faults = Chaos(dict, chance, print)._faults()
    found = []
    for fault in islice(faults, 2 * len(FAULTS)):
        chance.shuffle([*range(victims)])
        found.append(fault)
    return found


def test_every_fault_comes_once_before_any_comes_again_and_a_seed_gives_one_order() -> None:
    first, again, other = order(7, victims=1), order(7, victims=9), order(8, victims=1)
    assert first == again != other
    assert set(first[: len(FAULTS)]) == set(first[len(FAULTS) :]) == set(FAULTS)


def test_faults_are_of_what_a_demo_runs() -> None:
    assert {fault.name for fault in FAULTS} == {kind.name for kind in SERVICES} | {"stream", "serve", "generate"}


def test_things_break_only_meanwhile() -> None:
    asked = threading.Event()

    def pids() -> dict[str, int | None]:
        asked.set()
        return {}

    before = threading.active_count()
    with meanwhile(Chaos(pids, random.Random(1), print, (0.0, 0.0)).run):
        assert asked.wait(SECONDS)
    assert threading.active_count() == before
