"""All embedded services together: up, down, status, env, heal. A further service is one file and one line here."""

import shlex
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import SecretStr

from engagement.embedded.bigquery import BigQuery
from engagement.embedded.connect import Connect
from engagement.embedded.demo_jobs import stop_jobs
from engagement.embedded.kafka import Kafka
from engagement.embedded.postgres import Postgres
from engagement.embedded.process import write_private
from engagement.embedded.receiver import Receiver
from engagement.embedded.redis import Redis
from engagement.embedded.service import Progress, Service, ServiceStatus
from engagement.embedded.site import Site
from engagement.errors import StackError
from engagement.settings import Settings, declared_settings
from engagement.settings.sources import DEFAULT, STACK, STACK_FILE

SERVICES: tuple[type[Service], ...] = (Postgres, Kafka, Redis, BigQuery, Receiver, Connect)
LOCK_SECONDS = 300.0
# What --purge may remove; ENGAGEMENT_HOME could be set to a folder that holds other things as well.
_FOLDERS = ("backfill", "checkpoints", "demo", "lake", "logs", "run", "secrets")
PURGED = (*_FOLDERS, "ports.json", STACK_FILE, "stack.lock", "demo.lock")


def silent(_line: str) -> None:
    """Report progress to nobody."""


class Stack:
    """The embedded services below one folder.

    `home` is ENGAGEMENT_HOME. `env` holds the caller's own variables: one that names a service (DATABASE_URL,
    KAFKA_BOOTSTRAP_SERVERS, KAFKA_CONNECT_URL, REDIS_URL, BIGQUERY_EMULATOR_HOST, or BIGQUERY_PROJECT_ID with
    GOOGLE_APPLICATION_CREDENTIALS, EXTERNAL_SYSTEM_URL) wins, and that service is not started.
    `kinds` are the services there are, `names` those of them that are wanted; None: all.
    Every method may be called from several processes at once; they take turns.
    """

    def __init__(
        self,
        home: Path,
        env: Mapping[str, str],
        names: Collection[str] | None = None,
        kinds: Collection[type[Service]] = SERVICES,
    ) -> None:
        self.home = home.absolute()
        self._given = dict(env)
        self._site = Site(self.home, self._given)
        self._services = [kind(self._site) for kind in kinds if names is None or kind.name in names]
        # Held by a demo for its life. Whoever ends the demo's process lets go of it, and it may ask for it again.
        self._demo = FileLock(self.home / "demo.lock", thread_local=False)

    @classmethod
    def of(cls, settings: Settings, origins: Mapping[str, str]) -> "Stack":
        """Build the stack of resolved settings; `origins` says of each where its value came from."""
        return cls(settings.paths.engagement_home, brought(settings, origins))

    @property
    def env_file(self) -> Path:
        """The settings of the running stack; the file exists between `up` and `down`."""
        return self.home / STACK_FILE

    def up(self, progress: Progress = silent) -> None:
        """Start what is missing, at the same time where possible; return when all answer.

        Raises:
            StackError: a service could not start. Others that were starting too are ended, those that were up stay; a
                second `up` goes on from there.

        """
        with self._turn(), self._ports_released():
            self._site.cancelled.clear()
            with ThreadPoolExecutor(len(self._services)) as pool:
                begun: dict[str, Future[None]] = {}
                for service in self._services:
                    begun[service.name] = pool.submit(self._up_one, service, dict(begun), progress)
                try:
                    for future in begun.values():
                        future.result()
                except BaseException:
                    # Ctrl-C or a failure: nobody waits for the rest of the starts.
                    self._site.cancelled.set()
                    raise
            self._write_env()

    def heal(self) -> list[str]:
        """Start what is missing and repair what has failed; name what was touched. Costs milliseconds when all is well.

        Does nothing while another process works on this stack.

        Raises:
            StackError: a service could not be brought back; try again later.

        """
        try:
            with self._turn(seconds=0.0), self._ports_released():
                healed = [service.name for service in self._services if not service.external and _heal_one(service)]
                if healed:
                    self._write_env()
                return healed
        except Timeout:
            return []

    def down(self, *, purge: bool = False, progress: Progress = silent) -> None:
        """Stop everything, readers before what they read from; with `purge`, remove all data too.

        The first to go are the jobs of a demo that was killed: they would write into what is removed under them.

        Raises:
            StackError: a demo runs here that is not this object's: it would start again what is stopped.

        """
        if not self.home.is_dir():
            return
        with self._turn(), self._without_other_demo():
            stop_jobs(self.home, progress)
            for wave in _waves(self._services):
                with ThreadPoolExecutor(len(wave)) as pool:
                    list(pool.map(lambda service: _stop_one(service, progress), wave))
            self.env_file.unlink(missing_ok=True)
            if purge:
                self._purge()
        if purge:
            with suppress(OSError):  # something else is in it, perhaps the lock of who comes next
                self.home.rmdir()

    @contextmanager
    def kept_by_demo(self) -> Iterator[None]:
        """Let no second demo and nobody else's `down` come between, until the block ends or the process does.

        Raises:
            StackError: a demo runs here already.

        """
        with ExitStack() as kept:
            with self._turn():
                kept.enter_context(self._without_other_demo())
            yield

    def status(self) -> list[ServiceStatus]:
        """Look at every service."""
        with ThreadPoolExecutor(len(self._services)) as pool:
            return list(pool.map(lambda service: service.status(), self._services))

    def env(self) -> dict[str, str]:
        """Name every setting that clients and jobs need; a variable of the caller wins."""
        settings: dict[str, str] = {}
        for service in self._services:
            settings |= service.given or service.settings()
        settings |= {"LAKE_PATH": str(self.home / "lake"), "CHECKPOINT_PATH": str(self.home / "checkpoints")}
        return {name: self._given.get(name) or value for name, value in settings.items()}

    def env_lines(self) -> str:
        """Write `env` as NAME=value lines that a shell and a .env reader both understand."""
        return "".join(f"{name}={shlex.quote(value)}\n" for name, value in self.env().items())

    def _up_one(self, service: Service, begun: Mapping[str, "Future[None]"], progress: Progress) -> None:
        for needed in service.after:
            begun[needed].result()
        if service.external:
            progress(f"{service.name}: {service.external_note}")
            return
        begin = time.monotonic()
        started = service.up()
        took = f"ready in {time.monotonic() - begin:.1f} s" if started else "was running"
        progress(f"{service.name}: {took}, {service.address()}")

    def _write_env(self) -> None:
        write_private(self.env_file, self.env_lines())

    def _purge(self) -> None:
        for service in self._services:
            for folder in (self.home / service.name, *service.purge_folders()):
                shutil.rmtree(folder, ignore_errors=True)
        for name in PURGED:
            path = self.home / name
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    @contextmanager
    def _turn(self, seconds: float = LOCK_SECONDS) -> Iterator[None]:
        try:
            lock = self._locked(seconds)
        except FileNotFoundError:  # whoever had the turn has purged, and the folder went with it
            lock = self._locked(seconds)
        with lock:
            yield

    def _locked(self, seconds: float) -> AbstractContextManager[object]:
        if not self.home.is_dir():
            self.home.mkdir(parents=True, exist_ok=True)
            self.home.chmod(0o755)  # root's PostgreSQL runs as another user, who has to get to its own folder in here
        return FileLock(self.home / "stack.lock", timeout=seconds).acquire()

    def _without_other_demo(self) -> AbstractContextManager[object]:
        """Take the demo's lock, in a turn only: so whoever has it is a demo."""
        try:
            return self._demo.acquire(timeout=0.0)
        except Timeout:
            reason = f"one runs in {self.home} and starts again what is stopped there"
            raise StackError("demo", reason, hint="End it first, with Ctrl-C or SIGTERM.") from None

    @contextmanager
    def _ports_released(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._site.release_ports()


def _heal_one(service: Service) -> bool:
    return service.mend() if service.is_running() else service.up()


def _stop_one(service: Service, progress: Progress) -> None:
    was_running = service.is_running()
    service.stop()
    if was_running:
        progress(f"{service.name}: stopped")


def _waves(services: list[Service]) -> list[list[Service]]:
    """Order services so that each wave is needed by none that still runs.

    Example: Connect needs PostgreSQL and Kafka, so it is the first to go.
    """
    left = list(services)
    waves = []
    while left:
        needed = {name for service in left for name in service.after}
        wave = [service for service in left if service.name not in needed]
        waves.append(wave)
        left = [service for service in left if service not in wave]
    return waves


def brought(settings: Settings, origins: Mapping[str, str]) -> dict[str, str]:
    """Name what the caller has set as a text, wherever every command looks for it: environment, `.env`, conf/*.yaml.

    What a running stack says of itself is not the caller's, and neither are defaults.
    """
    found = {}
    for item in declared_settings():
        value = getattr(getattr(settings, item.section), item.attribute)
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if origins[item.name] not in (STACK, DEFAULT) and isinstance(text, str | Path):
            found[item.name] = str(text)
    return found
