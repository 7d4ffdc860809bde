"""One demo from start to end: services, jobs, probes, the live table, and for an unattended run the judgement."""

import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import psycopg2
from psycopg2.extensions import connection as Connection
from redis import Redis

from engagement.command import hold_off_signals
from engagement.demo.chaos import Chaos
from engagement.demo.children import Child, kept_running, metrics_url
from engagement.demo.external import Committed, ExternalReport, await_sent, measure_external
from engagement.demo.judge import Judge
from engagement.demo.lake import count_dead_letters
from engagement.demo.patience import Patience
from engagement.demo.plan import DemoPlan
from engagement.demo.probe import FreshnessProbe, probe_interval
from engagement.demo.redis_view import RedisView, delivered_per_second
from engagement.demo.report import LakeReport, Report, WarehouseReport, package_versions, tree_rss_mib
from engagement.demo.versions import VersionComparison
from engagement.demo.warehouse import WarehouseProbe
from engagement.embedded.stack import Stack
from engagement.errors import EngagementError, StackError
from engagement.meanwhile import meanwhile
from engagement.monitoring.status import QueryStatus
from engagement.settings import Settings

_HEAL_SECONDS = 2.0
_SHOW_SECONDS = 1.0
_BEGIN_SECONDS = 60.0
_READY_LIMIT_SECONDS = 180.0
_WAREHOUSE_INTERVAL_SECONDS = 2.0
_ANSWER_SECONDS = 60.0


@dataclass(frozen=True)
class Moment:
    """What the live table shows."""

    seconds: float
    status: QueryStatus | None
    probe: FreshnessProbe
    top: list[tuple[str, float]]
    services: Mapping[str, str]
    address: str


class Display(Protocol):
    """Where a person watches: a live table on a terminal, lines elsewhere."""

    def say(self, text: str) -> None:
        """One line of progress."""
        ...

    def show(self, moment: Moment) -> None:
        """The state now."""
        ...


class Demo:
    """Runs everything on this machine; the constructor starts nothing."""

    def __init__(
        self, plan: DemoPlan, stack: Stack, children: list[Child], settings: Settings, display: Display
    ) -> None:
        self._plan = plan
        self._stack = stack
        self._children = children
        self._settings = settings
        self._display = display
        self._redis = Redis.from_url(settings.redis.url.get_secret_value(), decode_responses=True, socket_timeout=5)
        self._view = RedisView(self._redis, settings.redis.top_key)
        self._warehouse_probe = WarehouseProbe(plan.warehouse.visible, _WAREHOUSE_INTERVAL_SECONDS, time.monotonic)
        self._probe = FreshnessProbe(
            self._connect, self._redis, settings.redis.top_key, probe_interval(settings.redis.window_seconds),
            time.monotonic, self._warehouse_probe.note,
        )  # fmt: skip
        self._load_ended = threading.Event()
        self._restarts: dict[str, int] = {}
        self._started = plan.began
        self._first_event = 0
        """The newest event before this demo: what is older may be gone from Kafka, and is nobody's business here."""

    def run(self, stop: threading.Event) -> Report | None:
        """Run until `stop` or the planned end; a report only for a run that reached its end.

        Raises: TransientError when nothing is ranked within three minutes.
        """
        threads_stop = threading.Event()
        threads = [
            threading.Thread(target=body, args=(threads_stop,), name=name, daemon=True)
            for name, body in (
                ("probe", lambda leave: self._probe.run(self._load_ended, leave)),
                ("warehouse-probe", self._warehouse_probe.run),
                ("heal", self._heal),
            )
        ]
        self._first_event = self._newest_event(stop)
        with kept_running(self._children):
            try:
                for thread in threads:
                    thread.start()
                return self._run_to_the_end(stop)
            finally:
                hold_off_signals()
                threads_stop.set()
                self._load_ended.set()
                for thread in threads:
                    thread.join(timeout=_HEAL_SECONDS + 10)
                self._display.say("stopping the jobs; the streaming job finishes its micro-batch")

    def _run_to_the_end(self, stop: threading.Event) -> Report | None:
        ready = self._wait_until_ready(stop)
        self._warm_up(stop)
        self._probe.forget()
        self._warehouse_probe.forget()
        rows_before = self._newest_event(stop)
        since, began, before = datetime.now(UTC), time.monotonic(), self._view.status()
        with meanwhile(*self._chaos()):
            self._watch(stop, self._plan.duration_seconds)
        if stop.is_set() or ready is None:
            return None
        rows, after = self._newest_event(stop) - rows_before, self._view.status()
        seconds, until = time.monotonic() - began, datetime.now(UTC)
        rss = self._memory()
        # What is inserted from here on could not be on the board yet when it is compared.
        self._load_ended.set()
        self._children[-1].stop()
        ended = datetime.now(UTC)
        self._display.say("load has ended; waiting until everything is at rest, then comparing with the reference")
        patience = Patience(stop)
        judge = Judge(self._connect, self._redis, self._settings, self._plan.sql_folder, self._display.say, patience)
        board, lake = judge.board_at_rest(), judge.lake_at_rest(self._first_event)
        warehouse = self._warehouse_report(judge.warehouse_at_rest(self._plan.warehouse, self._first_event))
        waiting = await_sent(lambda: self._view.status("external"), ended, patience)
        self._probe.await_last(stop)
        if board is None or stop.is_set():
            return None
        lake_path = Path(self._settings.paths.lake_path)
        return Report(
            setup_seconds=self._plan.setup_seconds,
            ready_seconds=round(ready, 1),
            duration_seconds=round(seconds, 1),
            rate=self._plan.rate,
            inserted=rows,
            events_per_second=delivered_per_second(before, after, seconds),
            redis=self._probe.freshness(),
            missed_probes=self._probe.missed,
            board_equals_reference=board.is_equal,
            lost=board.lost,
            doubled=board.doubled,
            lake=None if lake is None else LakeReport(lake.rows, lake.is_equal, count_dead_letters(lake_path)),
            warehouse=warehouse,
            external=self._external(Committed(since, until), waiting),
            dead_letters=self._dead_letters(),
            rss_mib=rss,
            restarts=dict(self._restarts),
            versions=package_versions(),
        )

    def _warehouse_report(self, found: VersionComparison | None) -> WarehouseReport | None:
        """Its rows are at rest, so the last probes are visible by now if ever; those that are not are missed."""
        if found is None:
            return None
        with suppress(EngagementError):
            self._warehouse_probe.look()
        fresh = self._warehouse_probe.freshness()
        p50, p99, samples = (fresh.p50_ms, fresh.p99_ms, fresh.samples) if fresh else (None, None, 0)
        return WarehouseReport(p50, p99, samples, self._warehouse_probe.missed(), found.rows, found.is_equal)

    def _wait_until_ready(self, stop: threading.Event) -> float | None:
        logs = ", ".join(str(child.log) for child in self._children)
        self._probe.await_first(stop, _READY_LIMIT_SECONDS, logs)
        return None if stop.is_set() else time.monotonic() - self._started

    def _warm_up(self, stop: threading.Event) -> None:
        """Until every query has begun, each with much to do, and then for as long as the plan has it."""
        if self._plan.duration_seconds is not None:
            self._watch(stop, _BEGIN_SECONDS, until=self._view.all_run)
            self._watch(stop, self._plan.warm_up_seconds)

    def _watch(self, stop: threading.Event, seconds: float | None, until: Callable[[], bool] = lambda: False) -> None:
        began = time.monotonic()
        while not (stop.is_set() or until()) and (seconds is None or time.monotonic() - began < seconds):
            self._display.show(self._moment())
            stop.wait(_SHOW_SECONDS)

    def _heal(self, stop: threading.Event) -> None:
        while not stop.wait(_HEAL_SECONDS):
            try:
                for name in self._stack.heal():
                    self._note_restart(name)
            except StackError as error:
                self._display.say(f"{error}; trying again")
            for child in self._children:
                if not stop.is_set() and child.heal():
                    self._note_restart(child.name)

    def _note_restart(self, name: str) -> None:
        self._restarts[name] = self._restarts.get(name, 0) + 1
        self._display.say(f"{name} was gone and has been started again")

    def _moment(self) -> Moment:
        top = self._view.top()
        status = None if top is None else self._view.status()  # no second wait for a Redis that is away
        services = {status.name: status.state for status in self._stack.status()}
        jobs = {child.name: "running" if child.pid else "stopped" for child in self._children}
        monitoring = self._settings.monitoring
        return Moment(
            time.monotonic() - self._started, status, self._probe, top or [], {**services, **jobs},
            f"{metrics_url(monitoring, monitoring.metrics_port)}/",
        )  # fmt: skip

    def _dead_letters(self) -> dict[str, int]:
        status = self._view.status()
        return {} if status is None else dict(status.rows.dead_letters)

    def _external(self, rows: Committed, waiting: int | None) -> ExternalReport | None:
        ours = {status.name: status.address for status in self._stack.status() if status.state == "running"}
        lake = Path(self._settings.paths.lake_path)
        return measure_external(lake, self._plan.sql_folder, rows, ours.get("receiver", ""), waiting)

    def _chaos(self) -> list[Callable[[threading.Event], None]]:
        """What breaks things, if that was asked for."""
        seed = self._plan.chaos_seed
        return [] if seed is None else [Chaos(self._pids, random.Random(seed), self._display.say).run]  # noqa: S311

    def _pids(self) -> dict[str, int | None]:
        services = {status.name: status.pid for status in self._stack.status()}
        return {**services, **{child.name: child.pid for child in self._children}}

    def _memory(self) -> dict[str, float]:
        each = {name: tree_rss_mib(pid) for name, pid in self._pids().items()}
        return {**each, "total": round(sum(each.values()), 1)}

    def _connect(self) -> Connection:
        return psycopg2.connect(self._settings.postgres.database_url.get_secret_value(), connect_timeout=5)

    def _newest_event(self, stop: threading.Event) -> int:
        """Its id, once PostgreSQL answers: it may have been killed a moment ago, and is started again."""
        return Patience(stop).answer(self._read_newest_event, psycopg2.OperationalError, _ANSWER_SECONDS)

    def _read_newest_event(self) -> int:
        sql = (self._plan.sql_folder / "newest_event.sql").read_text()
        with closing(self._connect()) as database, database.cursor() as cursor:
            cursor.execute(sql)
            row = cursor.fetchone()
            return int(row[0]) if row else 0
