"""The embedded stack of one test session, the streaming job in it, and short names for what tests do to both."""

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import psycopg2
from psycopg2.extensions import connection as Connection
from redis import Redis
from tests.e2e.support import checkpoints
from tests.e2e.support.lake import LakeOracle
from tests.e2e.support.ledger import Ledger
from tests.e2e.support.oracle import Oracle, Verdict
from tests.e2e.support.processes import PROJECT, JobProcess, await_that, leftovers
from tests.e2e.support.receiver import ReceiverOracle
from tests.e2e.support.topic import Topic
from tests.e2e.support.warehouse import WarehouseOracle
from tests.e2e.support.watcher import Watcher
from tests.e2e.support.workload import Event, Workload, content_ids, insert, make_contents

from engagement.embedded.postgres import Postgres
from engagement.embedded.site import Site
from engagement.embedded.stack import Stack

WINDOW_MINUTES = 2
CONTENT_REFRESH_SECONDS = 4
SNAPSHOT_ROWS = 300
START_SECONDS = 180.0
STOP_SECONDS = 40.0
FIRST_BOARD_SECONDS = 40.0
BATCHES_SECONDS = 60.0
CATCH_UP_SECONDS = 90.0
STATUS_KEY = "engagement:status"
TOPIC = "engagement-events"
TABLES = ("warehouse", "lake", "external")
"""Sinks that keep every row version, or pass it on and keep a record of that."""
_HOST_VARIABLES = ("PATH", "HOME", "JAVA_HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "USER")


def host_environment() -> dict[str, str]:
    """The tests' own environment without any setting of a project that may run on the same machine."""
    kept = {name: os.environ[name] for name in _HOST_VARIABLES if name in os.environ}
    return {**kept, "PYTHONPATH": f"{PROJECT / 'lib'}{os.pathsep}{PROJECT}"}


class StreamJob(JobProcess):
    """`stream` with its own checkpoint; knows through Redis whether it runs."""

    def __init__(
        self, environment: Mapping[str, str], client: Redis, log: Path, sinks: Sequence[str] = ("redis",)
    ) -> None:
        super().__init__("stream", ("--sinks", ",".join(sinks)), environment, log)
        self.sinks = sinks
        self._client = client
        self._checkpoints = Path(environment["CHECKPOINT_PATH"])

    def checkpoint(self, sink: str) -> Path:
        """The checkpoint of one sink's query."""
        return self._checkpoints / sink

    def status(self, sink: str = "redis") -> dict[str, object]:
        """What a query says about itself; empty when nothing is known."""
        text = self._client.hget(STATUS_KEY, sink)
        return dict(json.loads(str(text))) if text else {}

    def start_and_wait(self) -> float:
        """Start it and wait until all its queries run; returns the seconds that took."""
        return self.await_running(self.start)

    def await_running(self, start: Callable[[], None]) -> float:
        """Wait until all queries run that `start` begins anew; returns the seconds that took."""
        before = {sink: self.status(sink).get("started_at") for sink in self.sinks}
        start()

        def runs(sink: str) -> bool:
            assert self.is_alive, f"the streaming job ended while starting:\n{self.tail()}"
            status = self.status(sink)
            return status.get("state") == "running" and status.get("started_at") != before[sink]

        return await_that(
            lambda: all(runs(sink) for sink in self.sinks),
            START_SECONDS,
            lambda: f"not every query runs: {[self.status(sink) for sink in self.sinks]}\n{self.tail()}",
        )

    def stop(self) -> int:
        """SIGTERM, as a service manager does; returns the exit code."""
        self.interrupt(signal.SIGTERM)
        return self.wait(STOP_SECONDS)

    def commits(self, sink: str = "redis") -> int:
        """Id of a query's newest finished micro-batch, -1 without any."""
        return (checkpoints.numbers(self.checkpoint(sink) / "commits") or [-1])[-1]

    def await_batches(self, count: int, sink: str = "redis", limit_seconds: float = BATCHES_SECONDS) -> None:
        """Wait until a query has finished so many more micro-batches."""
        target = self.commits(sink) + count
        told = f"no new micro-batch of {sink}"
        await_that(lambda: self.commits(sink) >= target, limit_seconds, lambda: f"{told}\n{self.tail()}")

    def await_batches_of_all(self, count: int, limit_seconds: float = BATCHES_SECONDS) -> None:
        """Wait until each query has finished so many more micro-batches."""
        targets = {sink: self.commits(sink) + count for sink in self.sinks}

        def behind() -> list[str]:
            return [sink for sink, target in targets.items() if self.commits(sink) < target]

        await_that(lambda: not behind(), limit_seconds, lambda: f"no new micro-batch of {behind()}\n{self.tail()}")


class World:
    """One stack with rows that were there before the connector came; the constructor starts nothing."""

    def __init__(self, sinks: Sequence[str]) -> None:
        self._sinks = sinks
        self.home = Path(tempfile.mkdtemp(prefix="engagement-e2e-"))
        self.home.chmod(0o755)  # root's PostgreSQL runs as somebody else
        self.window = timedelta(minutes=WINDOW_MINUTES)
        self.ledger = Ledger()
        self._host = host_environment()
        self.stack = Stack(self.home, self._host)
        self._source = Postgres(Site(self.home, self._host))
        self.first_board: Verdict | None = None
        """The first comparison: nothing but the connector's snapshot."""

    def open(self) -> None:
        """Start everything; the connector's first snapshot finds contents and rows in the tables."""
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
        self.lake = LakeOracle(topic, Path(self.env["LAKE_PATH"]))
        self.warehouse = self.warehouse_oracle(topic, self.env["BIGQUERY_DATASET_ID"])
        address = self.env["EXTERNAL_SYSTEM_URL"].removesuffix("/events")
        token = self.env["EXTERNAL_SYSTEM_TOKEN"]
        self.receiver = ReceiverOracle(topic, address, token, Path(self.env["LAKE_PATH"]))
        log = self.home / "logs" / "stream.log"
        self.job = StreamJob(self.job_environment(), self.redis, log, self._sinks)
        self.job.start_and_wait()
        with suppress(AssertionError):  # the test of the snapshot judges it; here it would fail all others too
            self.oracle.await_equality(FIRST_BOARD_SECONDS)
        self.first_board = self.oracle.newest

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

    @property
    def env(self) -> dict[str, str]:
        """What `stack env` prints."""
        return self.stack.env()

    def await_equality(self, least_events: int = 1) -> None:
        """Wait until every sink holds what it must."""
        self.oracle.await_equality(CATCH_UP_SECONDS, least_events)
        for oracle in (self.lake, self.warehouse, self.receiver):
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
            "PROCESSING_INTERVAL_SECONDS": "0.4",
            "LAKE_INTERVAL_SECONDS": "2",
            "BIGQUERY_MAX_BATCH_TIME_SECONDS": "2",
            "EXTERNAL_SYSTEM_INTERVAL_SECONDS": "1",
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
