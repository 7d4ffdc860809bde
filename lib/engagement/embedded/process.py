"""One supervised process: its own session, its own log, a pid file that a recycled pid cannot fool, an ordered end.

Processes outlive the command that started them; whoever comes next finds them by their pid file. What a killed process
leaves behind (PostgreSQL's backends) is found by its program and its working folder.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from engagement.errors import StackError

POLL_SECONDS = 0.05
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_START_FIELD = 22 - 3
"""Of /proc/<pid>/stat, counted from the first field after the name, which may hold anything."""
KILL_SECONDS = 10.0
LOG_TAIL_LINES = 15
LOG_KEEP_BYTES = 10 * 1024 * 1024


@dataclass(frozen=True)
class ProcessSpec:
    """What to run and where; `folder` is the working folder, and no other service shares it."""

    name: str
    command: tuple[str, ...]
    folder: Path
    log: Path
    pid_file: Path
    env: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 20.0
    niceness: int = 0
    """Added to the caller's: above 0, the process leaves the processors to others first."""


class Supervised:
    """A process that is started, watched and stopped through its spec."""

    def __init__(self, name: str, pid_file: Path) -> None:
        self.name = name
        self._pid_file = pid_file
        # Kept so that a dead child is reaped and never mistaken for a running one.
        self._child: subprocess.Popen[bytes] | None = None

    def process(self) -> psutil.Process | None:
        """Find the running process, None when there is none."""
        if self._child is not None and self._child.poll() is not None:
            self._child = None
        try:
            entry = json.loads(self._pid_file.read_text())
            process = psutil.Process(entry["pid"])
            known = {name: entry[name] for name in ("boot", "ticks")}
            same = identity_of(process.pid) == known
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except (FileNotFoundError, ProcessLookupError, ValueError, KeyError, psutil.NoSuchProcess):
            return None

    def start(self, spec: ProcessSpec, ready: Callable[[], bool], limit_seconds: float) -> None:
        """Start it and return once it answers; when anything fails, `ready` included, nothing is left running.

        Raises:
            StackError: it ended, or did not answer in time; carries the log's last lines.

        """
        kill_leftovers(spec)
        if self._child is not None:
            # A killed JVM looks dead while its threads still end, and until then it holds its files and ports.
            self._child.wait(KILL_SECONDS)
        for folder in (spec.folder, spec.log.parent, spec.pid_file.parent):
            folder.mkdir(parents=True, exist_ok=True)
        if spec.log.is_file() and spec.log.stat().st_size > LOG_KEEP_BYTES:
            spec.log.replace(spec.log.with_suffix(".old.log"))
        self._spawn(spec)
        try:
            self._await(spec, ready, limit_seconds)
        except BaseException:
            self.stop(spec)
            raise

    def stop(self, spec: ProcessSpec) -> None:
        """Ask it to end, wait, then insist; afterwards nothing of it runs."""
        if (process := self.process()) is not None:
            process.send_signal(spec.stop_signal)
            if not self._gone(process, spec.stop_seconds):
                _kill_session(process.pid)
                self._gone(process, KILL_SECONDS)
        kill_leftovers(spec)
        self._child = None
        self._pid_file.unlink(missing_ok=True)

    def _await(self, spec: ProcessSpec, ready: Callable[[], bool], limit_seconds: float) -> None:
        deadline = time.monotonic() + limit_seconds
        while not ready():
            if self.process() is None:
                raise StackError(self.name, f"ended while starting\n{_tail(spec.log)}", log=spec.log)
            if time.monotonic() > deadline:
                raise StackError(self.name, f"no answer after {limit_seconds:.0f} s\n{_tail(spec.log)}", log=spec.log)
            time.sleep(POLL_SECONDS)

    def _spawn(self, spec: ProcessSpec) -> None:
        with spec.log.open("ab") as log:
            self._child = subprocess.Popen(
                spec.command,
                cwd=spec.folder,
                env=dict(spec.env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=spec.user,
                extra_groups=None if spec.user is None else (),
            )
        try:
            process = psutil.Process(self._child.pid)
            process.nice(process.nice() + spec.niceness)
        except psutil.NoSuchProcess:
            pass  # it has ended already; as a zombie it still has its identity
        entry = {"pid": self._child.pid, **identity_of(self._child.pid), "name": self.name}
        write_private(self._pid_file, json.dumps(entry))

    def _gone(self, process: psutil.Process, seconds: float) -> bool:
        """Wait for the end; a child of ours is reaped through its own handle, which keeps the books right."""
        try:
            if self._child is not None and self._child.pid == process.pid:
                self._child.wait(seconds)
            else:
                process.wait(seconds)
        except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
            return False
        return True


def identity_of(pid: int) -> dict[str, str | int]:
    """Tell what a process has that no later one with its pid can have: its boot, and its start in ticks since then.

    Not the time of its start: whoever sets the clock moves that. Raises: FileNotFoundError, ProcessLookupError.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return {"boot": BOOT_ID.read_text().strip(), "ticks": int(fields[_START_FIELD])}


def kill_leftovers(spec: ProcessSpec) -> None:
    """End every process of this service that no pid file knows: same program, same working folder."""
    program, folder = Path(spec.command[0]).resolve().name, spec.folder.resolve()
    victims = [process for process in psutil.process_iter() if _belongs(process, program, folder)]
    for victim in victims:
        try:
            victim.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(victims, timeout=KILL_SECONDS)


def rss_mib(process: psutil.Process) -> float:
    """Measure a process with its children, in MiB; shared pages of PostgreSQL's backends count once (PSS is slow)."""
    try:
        own = process.memory_info()
        return float(own.rss + sum(max(0, _private(child)) for child in process.children(recursive=True))) / 2**20
    except psutil.NoSuchProcess:
        return 0.0


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
    draft.replace(path)


def _private(process: psutil.Process) -> int:
    try:
        memory = process.memory_info()
    except psutil.NoSuchProcess:
        return 0
    return int(memory.rss - memory.shared)


def _belongs(process: psutil.Process, program: str, folder: Path) -> bool:
    try:
        where = Path(process.cwd())
        return Path(process.exe()).name == program and (where == folder or folder in where.parents)
    except (psutil.Error, OSError):
        return False


def _kill_session(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
    return "\n".join(f"    {line}" for line in lines)
