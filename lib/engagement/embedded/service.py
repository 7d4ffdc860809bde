"""What the embedded services share: where they live (`Site`), and the shape of one (`Service`)."""

import json
import os
import secrets
import socket
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from filelock import FileLock, Timeout

from engagement.embedded.process import ProcessSpec, Supervised, rss_mib, write_private
from engagement.errors import StackError

LOOPBACK = "127.0.0.1"
PASSWORD_BYTES = 24
Progress = Callable[[str], None]
State = Literal["running", "stopped", "not answering", "external"]


@dataclass(frozen=True)
class ServiceStatus:
    """One line of `stack status`; memory in MiB, times in seconds since the epoch."""

    name: str
    state: State
    address: str
    pid: int | None = None
    started: float | None = None
    rss_mib: float = 0.0
    log: Path | None = None
    detail: str = ""


@dataclass
class Site:
    """The folder of one stack (ENGAGEMENT_HOME) with its ports and passwords, and the caller's variables.

    Ports: the usual one when free, else any free one; remembered, so that a restart keeps its addresses.
    """

    home: Path
    env: Mapping[str, str]
    cancelled: threading.Event = field(default_factory=threading.Event, repr=False)
    _reserved: ExitStack = field(default_factory=ExitStack, repr=False)
    # Services start in threads of their own and share the two files.
    _files: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @property
    def secrets_file(self) -> Path:
        """The one file with passwords, `name=value` lines; Connect's FileConfigProvider reads it too."""
        return self.home / "secrets" / "stack.properties"

    def secret(self, name: str) -> str:
        """Look a password up; made on first use."""
        with self._files:
            return self._secrets().get(name) or self.keep_secret(name, secrets.token_urlsafe(PASSWORD_BYTES))

    def keep_secret(self, name: str, value: str) -> str:
        """Put a password into the file, and give it back."""
        with self._files:
            known = self._secrets()
            if known.get(name) != value:
                known[name] = value
                write_private(self.secrets_file, "".join(f"{key}={word}\n" for key, word in sorted(known.items())))
                self.secrets_file.parent.chmod(0o700)
        return value

    def port(self, name: str, usual: int) -> int:
        """Tell the port that a service has, or will have."""
        return self._ports().get(name, usual)

    def choose_port(self, name: str, usual: int) -> int:
        """Settle the port of a service that is about to start, and keep others of us off it until `release_ports`."""
        with self._files:
            ports = self._ports()
            port = next((port for port in (ports.get(name), usual) if port and self._reserve(port)), None)
            while port is None:
                candidate = _any_free_port()
                port = candidate if self._reserve(candidate) else None
            ports[name] = port
            write_private(self.home / "ports.json", json.dumps(ports, indent=1))
            return port

    def release_ports(self) -> None:
        """Let go of the reservations; the services hold their ports themselves now."""
        self._reserved.close()

    def _secrets(self) -> dict[str, str]:
        if not self.secrets_file.is_file():
            return {}
        return dict(line.split("=", 1) for line in self.secrets_file.read_text().splitlines() if "=" in line)

    def _ports(self) -> dict[str, int]:
        path = self.home / "ports.json"
        return {str(k): int(v) for k, v in json.loads(path.read_text()).items()} if path.is_file() else {}

    def _reserve(self, port: int) -> bool:
        """Take the port's lock file, so that two stacks that start at once do not both see it free."""
        try:
            lock = FileLock(Path(tempfile.gettempdir()) / f"engagement-{os.getuid()}-port-{port}.lock", timeout=0)
            self._reserved.enter_context(lock.acquire())
        except (Timeout, OSError):
            return False
        return _is_free(port)


class Service(ABC):
    """One embedded service. Constructing it does nothing; `up` brings it to where clients can use it.

    `variable` is the setting that names it: when the caller has set it, nothing is started here.
    """

    name: ClassVar[str]
    variable: ClassVar[str]
    after: ClassVar[tuple[str, ...]] = ()
    start_seconds: ClassVar[float] = 60.0

    def __init__(self, site: Site) -> None:
        self.site = site
        self._supervised = Supervised(self.name, site.home / "run" / f"{self.name}.json")

    @abstractmethod
    def settings(self) -> dict[str, str]:
        """Name the settings through which clients reach it."""

    @abstractmethod
    def address(self) -> str:
        """Name it for people, without secrets."""

    @abstractmethod
    def prepare(self) -> None:
        """Choose ports and write the files that it starts from."""

    @abstractmethod
    def spec(self) -> ProcessSpec:
        """Tell how it runs."""

    @abstractmethod
    def answers(self) -> bool:
        """Ask it, the way a client would, whether it works."""

    def settle(self) -> None:
        """Make what must exist in it before clients come; repeated on every `up`."""

    def mend(self) -> bool:
        """Repair what is wrong inside it while it runs; True when something was."""
        return False

    def detail(self) -> str:
        """Add a few words to its status."""
        return ""

    @property
    def external(self) -> bool:
        """Whether the caller brings this service along."""
        return bool(self.site.env.get(self.variable))

    @property
    def folder(self) -> Path:
        """Where its data lies."""
        return self.site.home / self.name

    @property
    def log(self) -> Path:
        """Its log."""
        return self.site.home / "logs" / f"{self.name}.log"

    def process_spec(self, command: tuple[str, ...], env: Mapping[str, str]) -> ProcessSpec:
        """Fill in what is the same for all."""
        return ProcessSpec(
            name=self.name,
            command=command,
            folder=self.folder,
            log=self.log,
            pid_file=self.site.home / "run" / f"{self.name}.json",
            env=env,
        )

    def is_running(self) -> bool:
        """Whether its process is there."""
        return self._supervised.process() is not None

    def up(self) -> bool:
        """Start it unless it runs, and settle it; True when it had to be started."""
        started = not self.is_running()
        if started:
            self.prepare()
            self._supervised.start(self.spec(), self._ready, self.start_seconds)
        self.settle()
        return started

    def _ready(self) -> bool:
        if self.site.cancelled.is_set():
            raise StackError(self.name, "its start was given up, because another service failed or by Ctrl-C")
        return self.answers()

    def stop(self) -> None:
        """End it, and whatever it left behind."""
        self._supervised.stop(self.spec())

    def purge_folders(self) -> list[Path]:
        """Name what `--purge` removes outside the home folder."""
        return []

    def status(self) -> ServiceStatus:
        """Look at it from outside."""
        if self.external:
            return ServiceStatus(self.name, "external", f"as {self.variable} says")
        process = self._supervised.process()
        if process is None:
            return ServiceStatus(self.name, "stopped", self.address(), log=self.log)
        answers = self.answers()
        return ServiceStatus(
            self.name,
            "running" if answers else "not answering",
            self.address(),
            pid=process.pid,
            started=process.create_time(),
            rss_mib=round(rss_mib(process), 1),
            log=self.log,
            detail=self.detail() if answers else "",
        )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def _any_free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def port_answers(port: int, seconds: float = 1.0) -> bool:
    """Whether somebody listens on a loopback port."""
    try:
        socket.create_connection((LOOPBACK, port), seconds).close()
    except OSError:
        return False
    return True
