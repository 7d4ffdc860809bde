"""Where one stack lives: its folder, its ports, its passwords, and what the caller brought along."""

import json
import os
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import requests
from filelock import FileLock, Timeout

from engagement.embedded.process import write_private
from engagement.settings.sources import STACK_FILE

LOOPBACK = "127.0.0.1"
PASSWORD_BYTES = 24
KEEP_SECONDS, KEEP_POLL_SECONDS = 5.0, 0.05


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
        """Settle the port of a service that is about to start, and keep others of us off it as long as the stack is up.

        The one it had is worth a wait: a killed server's children may hold it for a moment, or another stack that looks
        whose it is; and whoever runs beside the stack knows no other.
        """
        port = self._reserve_former_port(name)
        with self._files:
            port = port or (usual if self._reserve(usual) else None)
            while port is None:
                candidate = _any_free_port()
                port = candidate if self._reserve(candidate) else None
            write_private(self.home / "ports.json", json.dumps({**self._ports(), name: port}, indent=1))
            return port

    def _reserve_former_port(self, name: str) -> int | None:
        port, given_up = self._ports().get(name), time.monotonic() + KEEP_SECONDS
        while port and time.monotonic() < given_up:
            if self._reserve(port):
                return port
            if self.cancelled.wait(KEEP_POLL_SECONDS):
                break
        return None

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
        """Take the port's lock file, so that two stacks that start at once do not both see it free, and sign for it.

        The signature outlasts the lock: nothing listens where a service was killed, and yet its clients look for it.
        Who finds another's there leaves the lock at once: that other may be about to take its port again.
        """
        path = Path(tempfile.gettempdir()) / f"engagement-{os.getuid()}-port-{port}.lock"
        owner = path.with_suffix(".home")
        with ExitStack() as taken:
            try:
                # Taken in the thread that starts a service, given back in another one.
                lock = FileLock(path, timeout=0, thread_local=False)
                taken.enter_context(lock.acquire())
                if self._belongs_to_another(owner, port) or not _is_free(port):
                    return False
                write_private(owner, str(self.home))
            except (Timeout, OSError):
                return False
            self._reserved.push(taken.pop_all())
        return True

    def _belongs_to_another(self, owner: Path, port: int) -> bool:
        """Whether the port is that of another stack that is up."""
        if not owner.is_file():
            return False
        other = Site(Path(owner.read_text()), {})
        return other.home != self.home and (other.home / STACK_FILE).is_file() and port in other._ports().values()


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


def loopback_session() -> requests.Session:
    """A session for services of this machine: a proxy of the environment has no business on the loopback."""
    session = requests.Session()
    session.trust_env = False
    return session


def port_answers(port: int, seconds: float = 1.0) -> bool:
    """Whether somebody listens on a loopback port."""
    try:
        socket.create_connection((LOOPBACK, port), seconds).close()
    except OSError:
        return False
    return True


def http_answers(session: requests.Session, url: str, seconds: float) -> bool:
    """Whether what is asked for is there."""
    try:
        return session.get(url, timeout=seconds).ok
    except requests.RequestException:
        return False
