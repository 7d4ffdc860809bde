"""How fast history is brought into a sink, and how fast both are compared, beside what PostgreSQL can give at all."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
import psycopg2
from pyspark.sql import SparkSession

from engagement.backfill.build import TABLES, Request, build_backfills, events_of, sinks_to_fill, start_spark
from engagement.backfill.progress import Audience
from engagement.benchmark.bench import Bench, MeasuredReport
from engagement.errors import ConfigError, EngagementError, TransientError
from engagement.project import PROJECT
from engagement.reconcile.build import Parts, build_comparison
from engagement.settings import Settings
from engagement.sources.history import Span

EVERYTHING = Span(datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
_CONTENTS = 5_000
_FILL_ROWS = 250_000
_SAMPLE_SECONDS = 0.2
_READERS = 2
_MIB = 2**20
_SQL = PROJECT / "sql" / "benchmark"
_COPY = "copy (select * from engagement_events where id between {first} and {last}) to stdout"


@dataclass(frozen=True)
class HistoryReport(MeasuredReport):
    """What was measured."""

    sink: str
    rows: int
    backfill_seconds: float
    backfill_rows_per_second: float
    copy_rows_per_second: float
    """Two connections that copy the same rows to nowhere, in the same run."""
    copy_ratio: float
    """backfill_rows_per_second / copy_rows_per_second: what stays comparable on a busy machine."""
    reconcile_seconds: float | None
    """None when only the backfill was asked for."""
    reconcile_rows_per_second: float | None
    driver_peak_mib: int
    """Largest resident memory of the driver's Python while it ran."""
    jvm_peak_mib: int
    """Largest resident memory of Spark's JVM, which does the work too on a local master."""

    def summary(self) -> str:
        """The outcome in a line for a person."""
        return (
            f"{self.sink}: backfill of {self.rows:,} rows in {self.backfill_seconds:.1f} s: "
            f"{self.backfill_rows_per_second:,.0f}/s ({self.copy_ratio:.3f} of two parallel COPY to nowhere, "
            f"{self.copy_rows_per_second:,.0f}/s){self._compared()}; peak memory {self.driver_peak_mib} MiB driver, "
            f"{self.jvm_peak_mib} MiB JVM"
        )

    def _compared(self) -> str:
        if self.reconcile_seconds is None:
            return ""
        return f"; reconcile in {self.reconcile_seconds:.1f} s: {self.reconcile_rows_per_second:,.0f}/s"


def run_backfill(bench: Bench) -> HistoryReport | None:
    """Measure a backfill; None when told to stop. Raises: ConfigError, EngagementError."""
    return _run(bench, compare=False)


def run_reconcile(bench: Bench) -> HistoryReport | None:
    """Measure a backfill and a comparison after it; None when told to stop. Raises: ConfigError, EngagementError."""
    return _run(bench, compare=True)


def _run(bench: Bench, *, compare: bool) -> HistoryReport | None:
    if bench.sink not in TABLES:
        raise ConfigError([f"--sink {bench.sink} keeps no rows: choose from {', '.join(TABLES)}"])
    return HistoryBenchmark(bench.settings, bench.sink, bench.say).run(bench.rows, bench.stop, compare=compare)


class HistoryBenchmark:
    """One backfill and one comparison of one sink; the constructor starts nothing."""

    def __init__(self, settings: Settings, sink: str, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._sink = sink
        self._say = say

    def run(self, rows: int, stop: threading.Event, *, compare: bool) -> HistoryReport | None:
        """Measure a backfill, and a comparison after it; None when told to stop. Raises: EngagementError."""
        self._fill(rows, stop)
        if stop.is_set():
            return None
        self._say("copying the rows to nowhere, by two connections")
        copied = self._copy_rate(rows)
        spark = start_spark(self._settings, ())
        try:
            with _Memory() as memory:
                backfilled = self._backfill(spark, stop)
                reconciled = self._reconcile(spark, stop) if compare and not stop.is_set() else None
        finally:
            spark.stop()
        if stop.is_set():
            return None
        return HistoryReport(
            sink=self._sink,
            rows=rows,
            backfill_seconds=round(backfilled, 2),
            backfill_rows_per_second=round(rows / backfilled),
            copy_rows_per_second=round(copied),
            copy_ratio=round(rows / backfilled / copied, 3),
            reconcile_seconds=reconciled and round(reconciled, 2),
            reconcile_rows_per_second=reconciled and round(rows / reconciled),
            driver_peak_mib=memory.driver // _MIB,
            jvm_peak_mib=memory.jvm // _MIB,
        )

    def _backfill(self, spark: SparkSession, stop: threading.Event) -> float:
        request = Request(EVERYTHING, "postgres", sinks_to_fill(self._settings, "postgres", (self._sink,)))
        (backfill,) = build_backfills(self._settings, request, spark, stop, Audience(self._say))
        began = time.perf_counter()
        (outcome,) = backfill.run(restart=True)
        if outcome.failures:
            raise EngagementError(f"the backfill failed: {outcome.failures[0]}")
        return time.perf_counter() - began

    def _reconcile(self, spark: SparkSession, stop: threading.Event) -> float:
        self._say("comparing")
        began = time.perf_counter()
        parts = Parts(self._settings, spark, None, self._say, lambda: None, stop, (self._sink,))
        found = build_comparison(parts).run()
        if any(each.rows for each in found):
            raise EngagementError(f"{self._sink} differs after the backfill: {found[0].ids}")
        return time.perf_counter() - began

    def _fill(self, rows: int, stop: threading.Event) -> None:
        with closing(self._connect()) as database, database.cursor() as cursor:
            database.autocommit = True
            cursor.execute((_SQL / "fill_contents.sql").read_text(), {"contents": _CONTENTS})
            for first in range(0, rows, _FILL_ROWS):
                if stop.is_set():
                    return
                last = min(first + _FILL_ROWS, rows) - 1
                values = {"first": first, "last": last, "contents": _CONTENTS}
                cursor.execute((_SQL / "fill_events.sql").read_text(), values)
                self._say(f"{last + 1:,} of {rows:,} rows inserted")
            cursor.execute("vacuum analyze engagement_events")

    def _copy_rate(self, rows: int) -> float:
        first, last = events_of(self._settings).id_bounds() or (1, 1)
        middle = (first + last) // 2
        began = time.perf_counter()
        with ThreadPoolExecutor(_READERS) as readers:
            list(readers.map(self._copy, ((first, middle), (middle + 1, last))))
        return rows / (time.perf_counter() - began)

    def _copy(self, ids: tuple[int, int]) -> None:
        with closing(self._connect()) as database, database.cursor() as cursor, Path("/dev/null").open("wb") as nowhere:
            cursor.copy_expert(_COPY.format(first=ids[0], last=ids[1]), nowhere)

    def _connect(self) -> "psycopg2.extensions.connection":
        try:
            return psycopg2.connect(self._settings.postgres.database_url.get_secret_value())
        except psycopg2.Error as error:
            raise TransientError("PostgreSQL does not answer") from error


class _Memory:
    """The largest resident memory of this process and of its JVM while the context is entered."""

    def __init__(self) -> None:
        self.driver = self.jvm = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)

    def __enter__(self) -> "_Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        own = psutil.Process()
        java = [child for child in own.children(recursive=True) if child.name() == "java"]
        while not self._over.wait(_SAMPLE_SECONDS):
            self.driver = max(self.driver, own.memory_info().rss)
            self.jvm = max([self.jvm, *(child.memory_info().rss for child in java if child.is_running())])
