"""The shape of one embedded service, and what is the same for all of them."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from engagement.embedded.process import POLL_SECONDS, ProcessSpec, Supervised, rss_mib
from engagement.embedded.site import LOOPBACK, Site
from engagement.errors import StackError

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


class Service(ABC):
    """One embedded service. Constructing it does nothing; `up` brings it to where clients can use it.

    `variable` is the setting that names it: when the caller has set it, nothing is started here.
    """

    name: ClassVar[str]
    variable: ClassVar[str]
    usual_port: ClassVar[int]
    after: ClassVar[tuple[str, ...]] = ()
    start_seconds: ClassVar[float] = 60.0
    niceness: ClassVar[int] = 0
    """Above 0 for what stands for somebody else's machine: it must not take ours from the ranking."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._supervised = Supervised(self.name, site.home / "run" / f"{self.name}.json")

    @abstractmethod
    def settings(self) -> dict[str, str]:
        """Name the settings through which clients reach it."""

    @abstractmethod
    def prepare(self) -> None:
        """Choose ports and write the files that it starts from."""

    @abstractmethod
    def spec(self) -> ProcessSpec:
        """Tell how it runs."""

    @abstractmethod
    def answers(self) -> bool:
        """Ask it, the way a client would, whether it works."""

    def address(self) -> str:
        """Name it for people, without secrets."""
        return f"{LOOPBACK}:{self.port}"

    def settle(self) -> None:  # noqa: B027 - optional, so not abstract
        """Make what must exist in it before clients come; repeated on every `up`."""

    def mend(self) -> bool:
        """Repair what is wrong inside it while it runs; True when something was."""
        return False

    def detail(self) -> str:
        """Add a few words to its status."""
        return ""

    @property
    def given(self) -> dict[str, str]:
        """Name the caller's settings that bring this service along, the telling one first; empty when it is ours."""
        value = self.site.env.get(self.variable)
        return {self.variable: value} if value else {}

    @property
    def external(self) -> bool:
        """Whether the caller brings this service along."""
        return bool(self.given)

    @property
    def external_note(self) -> str:
        """Say why it is not ours to start."""
        return f"as {next(iter(self.given))} says"

    @property
    def port(self) -> int:
        """Its port on the loopback."""
        return self.site.port(self.name, self.usual_port)

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
            niceness=self.niceness,
        )

    def is_running(self) -> bool:
        """Whether its process is there."""
        return self._supervised.process() is not None

    def up(self) -> bool:
        """Start it unless it runs, and settle it; True when it had to be started."""
        started = not self._is_well()
        if started:
            self.prepare()
            self._check_wanted()  # what prepares for seconds may end after everything else was stopped
            self._supervised.start(self.spec(), self._ready, self.start_seconds)
        self.settle()
        return started

    def _is_well(self) -> bool:
        """Whether it runs and answers; one that is just dying, or hangs, does not count (and is ended)."""
        deadline = time.monotonic() + self.start_seconds
        while self.is_running():
            if self._ready():
                return True
            if time.monotonic() > deadline:
                self.stop()
            time.sleep(POLL_SECONDS)
        return False

    def _check_wanted(self) -> None:
        if self.site.cancelled.is_set():
            raise StackError(self.name, "its start was given up, because another service failed or by Ctrl-C")

    def _ready(self) -> bool:
        self._check_wanted()
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
            return ServiceStatus(self.name, "external", self.external_note)
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
