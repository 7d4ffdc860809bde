"""Jobs as real child processes: started as a person would, killed as a machine would, nothing left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

PROJECT = Path(__file__).resolve().parents[3]
POLL_SECONDS = 0.05
PATIENCE = float(os.environ.get("E2E_PATIENCE", "1"))
"""Multiplies every time limit: for a machine that has other work to do as well."""
_REST, _LONGEST_REST_SECONDS = 3.0, 1.0
"""Times as long as a look took, and the most."""
_KILL_SECONDS = 10.0
_TAIL_LINES = 40


def await_that(condition: Callable[[], bool], limit_seconds: float, otherwise: Callable[[], str] | str) -> float:
    """Poll until `condition` holds and return how long it took. Raises: AssertionError that says `otherwise`."""
    began, limit_seconds = time.monotonic(), limit_seconds * PATIENCE
    while True:
        looked = time.monotonic()
        if condition():
            return time.monotonic() - began
        if time.monotonic() - began > limit_seconds:
            said = otherwise if isinstance(otherwise, str) else otherwise()
            raise AssertionError(f"not within {limit_seconds:.0f} s: {said}")
        rest_after(looked, POLL_SECONDS)


def rest_after(looked: float, least_seconds: float) -> None:
    """Wait before the next look, longer after one that took long: it takes the processors from what it looks at.

    `looked`: when the last one began, monotonic seconds.
    """
    time.sleep(max(least_seconds, min(_LONGEST_REST_SECONDS, _REST * (time.monotonic() - looked))))


class JobProcess:
    """One `python -m jobs.<name>` in a session of its own; the constructor starts nothing."""

    module = ""
    """Of a process that is more than the job."""

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        self._command = (sys.executable, "-m", self.module or f"jobs.{name}", *arguments)
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._family: dict[int, psutil.Process] = {}

    def start(self) -> None:
        """Start it; returns at once."""
        assert not self.is_alive, "it runs already"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._family = {}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=PROJECT, env=self._environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    @property
    def is_alive(self) -> bool:
        """Whether its first process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its first process."""
        assert self._process is not None, "not started"
        return self._process.pid

    def family(self) -> list[psutil.Process]:
        """It and everything it ever started that still runs (Spark's JVM, Python workers in groups of their own)."""
        if self.is_alive:
            root = psutil.Process(self.pid)
            self._family |= {process.pid: process for process in [root, *root.children(recursive=True)]}
        return [process for process in self._family.values() if process.is_running()]

    def java(self) -> psutil.Process:
        """Spark's JVM."""
        return next(process for process in self.family() if process.name() == "java")

    def interrupt(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal to its first process only, as `kill` does."""
        self.family()
        os.kill(self.pid, number)

    def wait(self, limit_seconds: float) -> int:
        """Wait for its end; return the exit code. Raises: AssertionError with the log's end."""
        assert self._process is not None, "not started"
        try:
            return self._process.wait(limit_seconds * PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end within {limit_seconds:.0f} s:\n{self.tail()}") from None

    def kill(self) -> None:
        """SIGKILL to all of it at once, as when the machine loses power."""
        victims = self.family()
        for victim in victims:
            _kill(victim)
        if self._process is not None:
            self._process.wait(_KILL_SECONDS)
        psutil.wait_procs(victims, timeout=_KILL_SECONDS)

    def tail(self) -> str:
        """The newest lines of its log."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-_TAIL_LINES:])

    def text(self) -> str:
        """All it has written."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def leftovers(home: Path) -> list[str]:
    """Processes that belong to an ENGAGEMENT_HOME: working in it, named in their command line or environment."""
    return [
        f"{process.pid} {' '.join(process.cmdline())[:120]}"
        for process in psutil.process_iter()
        if _is_of(process, home)
    ]


def _is_of(process: psutil.Process, home: Path) -> bool:
    if process.pid == os.getpid():
        return False
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        places = [process.cwd(), *process.cmdline(), process.environ().get("ENGAGEMENT_HOME", "")]
    except (psutil.Error, OSError):
        return False
    return any(str(home) in place for place in places)


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return
