"""The embedded stack of one test session, the streaming job in it, and short names for what tests do to both."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import psycopg2
from psycopg2.extensions import connection as Connection
from redis import Redis
from tests.e2e.support.canaries import Canaries
from tests.e2e.support.lake import LakeOracle
from tests.e2e.support.ledger import Ledger
from tests.e2e.support.oracle import Oracle, Verdict
from tests.e2e.support.processes import PROJECT, leftovers
from tests.e2e.support.receiver import ReceiverOracle
from tests.e2e.support.source import SourceOracle
from tests.e2e.support.streams import STATUS_KEY
from tests.e2e.support.topic import Topic
from tests.e2e.support.warehouse import WarehouseOracle
from tests.e2e.support.warm import PausableStream, WarmProcess
from tests.e2e.support.watcher import Watcher
from tests.e2e.support.workload import Event, Workload, content_ids, insert, make_contents, user_ids

from engagement.embedded.connect import Connect
from engagement.embedded.postgres import Postgres
from engagement.embedded.site import Site
from engagement.embedded.stack import SERVICES, Stack

WINDOW_MINUTES = 2
CONTENT_REFRESH_SECONDS = 4
SNAPSHOT_ROWS = 300
FIRST_BOARD_SECONDS = 40.0
RESET_SECONDS = 60.0
CATCH_UP_SECONDS = 90.0
TOPIC = "engagement-events"
TABLES = ("warehouse", "lake", "external")
"""Sinks that keep every row version, or pass it on and keep a record of that."""
_HOST_VARIABLES = ("PATH", "HOME", "JAVA_HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "USER")


def host_environment() -> dict[str, str]:
    """The tests' own environment without any setting of a project that may run on the same machine."""
    kept = {name: os.environ[name] for name in _HOST_VARIABLES if name in os.environ}
    return {**kept, "PYTHONPATH": f"{PROJECT / 'lib'}{os.pathsep}{PROJECT}"}


class Unhurried(Connect):
    """With a connector that looks for news less often: it takes a tenth of a processor for looking every 30 ms."""

    def connector(self) -> dict[str, str]:
        """The project's own, but for that."""
        return {**super().connector(), "poll.interval.ms": "200"}


class World:
    """One stack with rows that were there before the connector came; the constructor starts nothing."""

    def __init__(self, sinks: Sequence[str]) -> None:
        self._sinks = sinks
        self.home = Path(tempfile.mkdtemp(prefix="engagement-e2e-"))
        self.home.chmod(0o755)  # root's PostgreSQL runs as somebody else
        self.window = timedelta(minutes=WINDOW_MINUTES)
        self.ledger = Ledger()
        self._host = host_environment()
        self.stack = Stack(self.home, self._host, kinds=[Unhurried if kind is Connect else kind for kind in SERVICES])
        self._source = Postgres(Site(self.home, self._host))
        self.first_board: Verdict | None = None
        """The first comparison: nothing but the connector's snapshot."""

    def open(self) -> None:
        """Start the services; the connector's first snapshot finds contents and rows in the tables."""
        self._source.up()
        self._source.site.release_ports()  # or the stack, which has a site of its own, would leave this port
        with closing(self.connect()) as database:
            make_contents(database, self.ledger)
            with database, database.cursor() as cursor:
                # Events may come before their content here, which the key would forbid.
                cursor.execute("alter table engagement_events drop constraint engagement_events_content_id_fkey")
                insert(cursor, self.ledger, _snapshot_events())
        self.stack.up()
        self.redis = Redis.from_url(self.env["REDIS_URL"], decode_responses=True, socket_timeout=5)
        self.oracle = Oracle(self.connect, self.redis, self.window)
        topic = Topic(self.env["KAFKA_BOOTSTRAP_SERVERS"], TOPIC)
        self.source = SourceOracle(topic, self.connect)
        self.lake = LakeOracle(topic, Path(self.env["LAKE_PATH"]))
        self.warehouse = self.warehouse_oracle(topic, self.env["BIGQUERY_DATASET_ID"])
        address = self.env["EXTERNAL_SYSTEM_URL"].removesuffix("/events")
        token = self.env["EXTERNAL_SYSTEM_TOKEN"]
        self.receiver = ReceiverOracle(topic, address, token, Path(self.env["LAKE_PATH"]))
        log = self.home / "logs" / "stream.log"
        self.process = WarmProcess(self.job_environment(), self.home / "orders", log)
        self.job = PausableStream(self.process, self.job_environment(), self.redis, self._sinks)

    def begin(self) -> None:
        """Start the streaming job: what its board must hold first is the snapshot."""
        self.job.start_and_wait()
        with suppress(AssertionError):  # the test of the snapshot judges it; here it would fail all others too
            self.oracle.await_equality(FIRST_BOARD_SECONDS)
        self.first_board = self.oracle.newest

    def with_job(self) -> PausableStream:
        """The streaming job, running, its board equal to the reference; reset when a test has left it otherwise."""
        self.redis.connection_pool.disconnect()  # a test that ran out of time may have left half an answer in it
        self.stack.up()
        self.receiver.heal()
        if not self.job.is_alive:
            self.redis.delete(STATUS_KEY)  # of other tests' jobs: whoever watches would miss their sign of life
            self.job.start_and_wait()
        try:
            self.oracle.await_equality(RESET_SECONDS, least_events=0)
        except AssertionError:
            self.job.kill()
            self.redis.flushall()
            self.job.start_and_wait()
            self.oracle.await_equality(RESET_SECONDS, least_events=0)
        return self.job

    def without_job(self) -> None:
        """Let it wait: its process is free for another stream."""
        if self.job.is_alive:
            assert self.job.stop() == 0, self.job.tail()

    def close(self, *, keep_logs: bool) -> None:
        """Stop everything; the folder stays when somebody may want to look at its logs."""
        if hasattr(self, "job"):
            self.job.kill()
            self.redis.close()
        self.stack.down(purge=not keep_logs)
        self._source.is_running()  # it reaps the child that it started
        left = leftovers(self.home)
        if not keep_logs:
            shutil.rmtree(self.home, ignore_errors=True)
        assert not left, f"left running: {left}"

    def canaries(self) -> Canaries:
        """What no log and no answer may hold."""
        lines = Site(self.home, self._host).secrets_file.read_text().splitlines()
        return Canaries({**self.env, **dict(line.split("=", 1) for line in lines)}, user_ids())

    @property
    def env(self) -> dict[str, str]:
        """What `stack env` prints."""
        return self.stack.env()

    def await_equality(self, least_events: int = 1) -> None:
        """Wait until the topic says what PostgreSQL holds, and every sink holds what it must."""
        self.oracle.await_equality(CATCH_UP_SECONDS, least_events)
        for oracle in (self.source, self.lake, self.warehouse, self.receiver):
            oracle.await_equality(CATCH_UP_SECONDS)

    def warehouse_oracle(self, topic: Topic, dataset: str) -> WarehouseOracle:
        """A comparison of a topic with the dataset that a job writes it to."""
        return WarehouseOracle(topic, self.env["BIGQUERY_PROJECT_ID"], dataset, self.env["BIGQUERY_EMULATOR_HOST"])

    def job_environment(self, **changes: str) -> dict[str, str]:
        """Environment of a job in this world: a small window, contents re-read often."""
        return {
            **self._host,
            **self.env,
            "ENGAGEMENT_HOME": str(self.home),
            "REDIS_AGGREGATION_WINDOW_MINUTES": str(WINDOW_MINUTES),
            "CONTENT_REFRESH_SECONDS": str(CONTENT_REFRESH_SECONDS),
            # A micro-batch costs much the same for ten rows as for a hundred, and others use these processors too.
            "PROCESSING_INTERVAL_SECONDS": "0.8",
            "LAKE_INTERVAL_SECONDS": "2",
            "BIGQUERY_MAX_BATCH_TIME_SECONDS": "2",
            "EXTERNAL_SYSTEM_INTERVAL_SECONDS": "2",
            "EXTERNAL_SYSTEM_TIMEOUT": "2",
            # These jobs live for seconds: they never earn back what the optimizing compiler costs.
            "JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
            **changes,
        }

    def connect(self) -> Connection:
        """A new connection to PostgreSQL, as the owner of the tables."""
        return psycopg2.connect(self.env["DATABASE_URL"], connect_timeout=5)

    def execute(self, sql: str, *parameters: object) -> None:
        """One statement, committed."""
        with closing(self.connect()) as database, database, database.cursor() as cursor:
            cursor.execute(sql, parameters)

    def insert(self, *events: Event) -> list[int]:
        """Rows in one transaction; their ids."""
        with closing(self.connect()) as database, database, database.cursor() as cursor:
            return insert(cursor, self.ledger, list(events))

    def load(self, rate: int = 250) -> Workload:
        """Rows until the context is left."""
        return Workload(self.connect, self.ledger, self.window, rate)

    def watch(self) -> Watcher:
        """Totals read until the context is left."""
        return Watcher(self.redis, self.ledger)

    def pid(self, service: str) -> int:
        """Process of an embedded service."""
        return next(status.pid for status in self.stack.status() if status.name == service and status.pid)

    def kill(self, service: str) -> None:
        """Kill -9 of an embedded service."""
        victim = psutil.Process(self.pid(service))
        victim.kill()
        psutil.wait_procs([victim], timeout=10)


def now() -> datetime:
    """The wall clock, aware."""
    return datetime.now(UTC)


def _snapshot_events() -> list[Event]:
    ids = content_ids()
    begin = now() - timedelta(minutes=1)
    return [
        Event(ids[n % 7], ("play", "finish", "click")[n % 3], begin + timedelta(seconds=n * 0.6), 1_000 * n)
        for n in range(SNAPSHOT_ROWS)
    ]
