"""A warehouse of its own for each test, in the real emulator, and what tests do to it."""

import os
import signal
import socket
import socketserver
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import psutil
from pyspark.sql import SparkSession
from tests.builders import Message, created
from tests.spark import frames

from engagement.embedded.bigquery import BigQuery
from engagement.embedded.site import LOOPBACK
from engagement.identity import BatchIdentity, OffsetRange
from engagement.settings import Settings, SettingsFiles, load_settings
from engagement.sinks.base import CommitTimes, PartitionSummary
from engagement.sinks.bigquery.client import WarehouseOptions
from engagement.sinks.bigquery.fence import Answer, FenceRow
from engagement.sinks.bigquery.ledger import BigQueryLedger
from engagement.sinks.bigquery.rest import Rest
from engagement.sinks.bigquery.sink import WarehouseSink

NOW = datetime(2026, 11, 23, 15, 0, 1, tzinfo=UTC)
IDENTITY = BatchIdentity("app", "generation", 3)
TOPIC = "engagement-events"
Result = TypeVar("Result")


def start(service: BigQuery) -> None:
    """Start the emulator unless it runs, on the ports it had."""
    service.up()
    service.site.release_ports()


def settings_of_a_place(bigquery: BigQuery, database_url: str, folder: Path, **more: str) -> Settings:
    """Those of a lake and a dataset of a test's own beside a database, and some more; the emulator runs."""
    start(bigquery)
    environment = {
        **bigquery.settings(), "DATABASE_URL": database_url, "ENGAGEMENT_HOME": str(folder),
        "LAKE_PATH": str(folder / "a lake"), "BIGQUERY_DATASET_ID": f"place_{folder.name.replace('-', '_')}", **more,
    }  # fmt: skip
    return load_settings(environment, SettingsFiles(folder))


def drop_dataset(rest: Rest) -> None:
    """Take a test's dataset away, if it is there, and let go of the connection."""
    dataset = rest.full_name("x").rpartition(".")[0]
    rest.call(rest.client.delete_dataset, dataset, delete_contents=True, not_found_ok=True)
    rest.close()


class CrashError(Exception):
    """kill -9 of the driver, wherever a test wants it."""


class Faulty:
    """The real ledger, with something that happens before or after one of its steps."""

    def __init__(self, step: str, act: Callable[[], None], *, before: bool = False) -> None:
        self._step, self._act, self._before = step, act, before

    def __call__(self, rest: Rest, options: WarehouseOptions) -> "Faulty":
        self._real = BigQueryLedger(rest, options)
        return self

    def _run(self, step: str, call: Callable[[], Result]) -> Result:
        if step == self._step and self._before:
            self._act()
        result = call()
        if step == self._step and not self._before:
            self._act()
        return result

    def read(self, topic_id: str) -> FenceRow | None:
        return self._run("read", lambda: self._real.read(topic_id))

    def seed(self, topic_id: str, token: str) -> None:
        self._run("seed", lambda: self._real.seed(topic_id, token))

    def claim(self, read_token: str, row: FenceRow) -> bool:
        return self._run("claim", lambda: self._real.claim(read_token, row))

    def commit(self, streams: tuple[str, ...]) -> Answer:
        return self._run("commit", lambda: self._real.commit(streams))

    def landed(self, row: FenceRow) -> bool:
        return self._run("landed", lambda: self._real.landed(row))

    def finish(self, row: FenceRow) -> bool:
        return self._run("finish", lambda: self._real.finish(row))

    def undo(self, row: FenceRow) -> bool:
        return self._run("undo", lambda: self._real.undo(row))


class Watched:
    """A way to the Storage Write API; something happens once, before the nth answer that names a stream comes back.

    The first tells that it was made, the following ones that it has taken rows. Use as a context manager.
    """

    def __init__(self, target: str, answer: int, act: Callable[[], None]) -> None:
        host, port = target.rsplit(":", 1)
        self._target, self._answer, self._act = (host, int(port)), answer, act
        self._lock = threading.Lock()
        watched = self

        class Way(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError), socket.create_connection(watched._target) as there:
                    threading.Thread(target=_pass_on, args=(self.request, there), daemon=True).start()
                    _pass_on(there, self.request, watched._look)

        self._server = socketserver.ThreadingTCPServer((LOOPBACK, 0), Way)
        self._server.daemon_threads, self._server.block_on_close = True, False
        self.address = f"{LOOPBACK}:{self._server.server_address[1]}"

    def __enter__(self) -> "Watched":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _look(self, data: bytes) -> None:
        with self._lock:
            self._answer -= b"/streams/" in data
            due = self._answer == 0
            self._answer -= due
        if due:
            self._act()


def _pass_on(source: socket.socket, target: socket.socket, look: Callable[[bytes], None] = lambda _data: None) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            look(data)
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


class NoLetters:
    """The emulator refuses no single row."""

    def add(self, _messages: object, refused: object, _identity: object) -> None:
        raise AssertionError(f"refused: {refused}")


class Dataset:
    """One dataset, and the drivers that write to it."""

    def __init__(self, spark: SparkSession, options: WarehouseOptions) -> None:
        self.spark, self.options, self.topic_id = spark, options, "first"
        self.rest = Rest(self.options)
        self.letters = NoLetters()
        self.visible: list[Sequence[CommitTimes]] = []

    def driver(
        self,
        clock: Callable[[], datetime] = lambda: NOW,
        ledger: Faulty | None = None,
        options: WarehouseOptions | None = None,
    ) -> WarehouseSink:
        options = options or self.options
        sink = WarehouseSink(options, lambda: self.topic_id, self.visible.append, clock, self.letters)
        sink.ledger = ledger or sink.ledger
        sink.open()
        return sink

    def deliver(self, sink: WarehouseSink, messages: Sequence[Message], *ranges: OffsetRange) -> list[PartitionSummary]:
        planned = ranges or (part(0, len(messages)),)
        return sink.deliver(frames.changes(self.spark, messages), planned, IDENTITY, final=True)

    def rows(self, table: str = "enriched_events") -> list[dict[str, Any]]:
        answer = self.rest.run_text(f"select * from {self.rest.quoted(table)}")  # noqa: S608 a name of ours
        return [dict(row) for row in answer.rows]

    def events(self) -> list[dict[str, Any]]:
        return sorted(self.rows(), key=lambda row: (row["kafka_partition"], row["kafka_offset"]))

    def ids(self) -> list[int]:
        return [row["event_id"] for row in self.events()]

    def drop(self) -> None:
        drop_dataset(self.rest)


class Warehouse(Dataset):
    """A dataset of the emulator, which may die."""

    def __init__(self, spark: SparkSession, service: BigQuery, rows_per_request: int = 50_000) -> None:
        self.service = service
        settings = service.settings()
        options = WarehouseOptions(
            project=settings["BIGQUERY_PROJECT_ID"],
            dataset=f"test_{uuid4().hex[:12]}",
            emulator=settings["BIGQUERY_EMULATOR_HOST"],
            emulator_grpc=settings["BIGQUERY_EMULATOR_GRPC_HOST"],
            rows_per_request=rows_per_request,
        )
        super().__init__(spark, options)

    def close(self) -> None:
        start(self.service)
        self.drop()

    def kill_and_restart(self) -> None:
        """Kill -9 of the emulator: what was committed stays, streams are forgotten."""
        self.kill()
        start(self.service)

    def kill(self) -> None:
        pid = self.service.status().pid
        assert pid is not None
        process = psutil.Process(pid)
        os.kill(pid, signal.SIGKILL)
        psutil.wait_procs([process], timeout=10)


def part(start: int, end: int, partition: int = 0) -> OffsetRange:
    return OffsetRange(TOPIC, partition, start, end)


def inserted(count: int, partition: int = 0) -> list[Message]:
    return [Message(created(id=n + 1).value, offset=n, partition=partition) for n in range(count)]
