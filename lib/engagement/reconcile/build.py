"""Settings to a runnable comparison, and what becomes of its findings."""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

from psycopg2.extensions import connection as Connection
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from engagement.backfill.build import (
    KEEPERS,
    RECEIVER,
    events_of,
    loader_of,
    recount_board,
)
from engagement.errors import ConfigError, TransientError
from engagement.monitoring.catalogue import DRIFT_ROWS, RECONCILED
from engagement.monitoring.client import redis_client
from engagement.monitoring.measures import Measures
from engagement.project import PROJECT
from engagement.reconcile.board import BoardComparison, BoardDrift, Numbers
from engagement.reconcile.compare import Findings, Kind
from engagement.reconcile.receiver import DeliveriesSide, remembered_span
from engagement.reconcile.repair import Mender
from engagement.reconcile.run import LETTERS, Comparison, Part, SinkSide
from engagement.reconcile.sides import LakeSide, TableSide, WarehouseSide
from engagement.schemas import TABLE_TOPIC, DeadLetterCode
from engagement.settings import Settings
from engagement.sinks.base import Loader
from engagement.sinks.bigquery.mending import drop_copies
from engagement.sinks.bigquery.rest import Rest
from engagement.sinks.delta.tables import dead_letters_table
from engagement.sinks.external.deliveries import deliveries_table
from engagement.sinks.external.receiver import Waiting
from engagement.sinks.lake.mending import LakeMender
from engagement.sinks.lake.tables import events_table
from engagement.sinks.redis.audit import counted, window_of
from engagement.sinks.redis.board import RedisBoard
from engagement.sinks.redis.client import connect
from engagement.sinks.spark_faults import spark_translated
from engagement.sources.board import expected_board
from engagement.sources.history import LogPosition, Span
from engagement.sources.postgres import connected
from engagement.streaming.options import catalogue_of, now, redis_options, warehouse_options

RANKING = "redis"
SINKS = (*KEEPERS, RANKING)
UNCOUNTED = "uncounted"
"""Of ranges that differ and were not looked at id by id: one row each, the least that they can hold."""
PROCESS = "reconcile"
"""This process's name among those that measure."""
_RUN_CHARACTERS = 12
_BOARD_SQL = PROJECT / "sql" / "reference" / "board.sql"
_STEPS_SQL = PROJECT / "sql" / "reference" / "steps_of_events.sql"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Parts:
    """What a run needs, ready to be used."""

    settings: Settings
    spark: SparkSession
    span: Span | None
    say: Say
    await_age: Callable[[], None]
    stop: threading.Event
    """Set when the run shall end."""
    sinks: tuple[str, ...] = SINKS
    """Those that are compared."""

    def loader(self, name: str) -> Loader:
        """The loader of a sink."""
        return loader_of(self.settings, name, self.spark, self.say, Waiting(self.stop.wait, self.stop.is_set, now))


def sinks_of(settings: Settings, named: Sequence[str] = ()) -> tuple[str, ...]:
    """The sinks that were named, else all that can be compared. Raises: ConfigError."""
    reachable = {
        "warehouse": settings.bigquery.is_set,
        "lake": True,
        RECEIVER: bool(settings.external.url),
        RANKING: bool(settings.redis.url.get_secret_value()),
    }
    missing = [name for name in named if not reachable[name]]
    if missing:
        raise ConfigError([f"--sinks {name}: it has no address" for name in missing])
    return tuple(named) or tuple(name for name, can in reachable.items() if can)


def lake_mender(parts: Parts) -> LakeMender:
    """What mends the lake's files and copies."""
    return LakeMender(parts.spark, parts.settings.paths.lake_path)


def prepare(parts: Parts) -> None:
    """Make or check the tables that are compared, so that an empty sink is one without rows."""
    for name in parts.sinks:
        if name in KEEPERS:
            with closing(parts.loader(name)) as loader:
                loader.open()


def build_comparison(parts: Parts) -> Comparison:
    """The comparison of rows with the sinks that keep rows."""
    settings, spark = parts.settings, parts.spark
    table = events_of(settings)
    source = TableSide(spark, table, catalogue_of(settings, spark), parts.span, now)
    # The receiver has what was sent to it since its stream began; of older days nobody remembers what that was.
    sent = remembered_span(parts.span, now(), settings.external.retention_days)
    sides: dict[str, Callable[[], SinkSide]] = {
        "warehouse": lambda: WarehouseSide(_rest(settings), parts.span),
        "lake": lambda: LakeSide(spark, events_table(settings.paths.lake_path), parts.span),
        RECEIVER: lambda: DeliveriesSide(spark, deliveries_table(settings.paths.lake_path), sent),
    }
    sinks = [sides[name]() for name in parts.sinks if name in sides]
    only = {RECEIVER: Part(replace(source, span=sent), from_its_first=parts.span is None)}
    letters = partial(_lettered, parts)
    return Comparison(source, sinks, table.id_bounds(), letters, parts.await_age, parts.say, only)


def mend(parts: Parts, position: LogPosition, found: Sequence[Findings]) -> None:
    """Mend what was found, sink by sink. Raises: TransientError, PermanentSinkError."""
    settings, spark = parts.settings, parts.spark
    name = f"reconcile_{uuid4().hex[:_RUN_CHARACTERS]}"
    mender = Mender(spark, events_of(settings), catalogue_of(settings, spark), position, name, now)
    rest = _rest(settings)
    copies: dict[str, Callable[[Sequence[int]], None]] = {
        "warehouse": partial(drop_copies, rest),
        "lake": lake_mender(parts).drop_copies,
        RECEIVER: lambda _: None,  # a version that was sent twice is none too many
    }
    for each in found:
        if not each.rows:
            continue
        with closing(parts.loader("lake" if each.sink == LETTERS else each.sink)) as loader:
            loader.open()
            if each.sink == LETTERS:
                mender.mend_letters(each, loader)
            else:
                mender.mend(each, loader, copies[each.sink])
    rest.close()


def compare_board(parts: Parts, young_seconds: int) -> list[BoardDrift] | None:
    """What differs on the live ranking; None where its window is too short to be compared. Raises: TransientError."""
    options = redis_options(parts.settings.redis)
    with closing(connect(options)) as client:
        board = RedisBoard(client, options)
        board.open()

        def window() -> tuple[int, int]:
            found = window_of(board)
            return found.first, found.end

        expected = partial(_expected, parts.settings)
        refused = partial(refused_early, parts)
        return BoardComparison(partial(counted, board), expected, window, refused, young_seconds, parts.await_age).run()


def mend_board(parts: Parts) -> None:
    """Count the board again. Raises: TransientError."""
    recount_board(parts.settings, parts.spark)


def publish(settings: Settings, drift: Mapping[str, Mapping[str, int]]) -> None:
    """Tell the monitoring API how many rows of each sink differ, by Kind or UNCOUNTED. Raises: TransientError.

    Of sinks that are not named, what was told before stays.
    """
    if not settings.redis.url.get_secret_value():
        return
    measures = Measures(PROCESS, by_sink=True)
    for sink, found in drift.items():
        for kind in (*Kind, UNCOUNTED):
            measures.set(DRIFT_ROWS, found.get(kind, 0), sink=sink, kind=str(kind))
        measures.set(RECONCILED, now().timestamp(), sink=sink)
    with closing(redis_client(settings.redis)) as client:
        if not measures.flush(client, force=True):
            raise TransientError("Redis does not answer, so nobody is told what differs")


def _rest(settings: Settings) -> Rest:
    return Rest(warehouse_options(settings.bigquery))


def _expected(settings: Settings, first: int, end: int) -> Numbers:
    with _database(settings) as database:
        return expected_board(database, _BOARD_SQL.read_text(), _moment(first), _moment(end))


def refused_early(parts: Parts, first: int, end: int) -> set[tuple[str, int]]:
    """content_id and step of the rows among some event times that were refused as too far ahead."""
    dead_letters_table("lake", parts.settings.paths.lake_path).prepare()
    with spark_translated("lake"):
        early = _letters(parts).where((F.col("code") == DeadLetterCode.E_TS_FUTURE) & F.col("event_id").isNotNull())
        ids = [row.event_id for row in early.select("event_id").distinct().collect()]
    with _database(parts.settings) as database, database.cursor() as cursor:
        times = {"window_start": _moment(first), "window_end": _moment(end)}
        cursor.execute(_STEPS_SQL.read_text(), {"ids": ids, **times})
        return {(content_id, second) for content_id, second in cursor.fetchall()}


def _database(settings: Settings) -> AbstractContextManager[Connection]:
    return connected(settings.postgres.database_url.get_secret_value(), "reconcile")


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _lettered(parts: Parts, ids: Sequence[int]) -> dict[int, set[str]]:
    """Of some ids, the codes of their dead letters in the lake."""
    with spark_translated("lake"):
        codes = (
            _letters(parts)
            .where(F.col("event_id").isin(list(ids)))
            .groupBy("event_id")
            .agg(F.collect_set("code").alias("codes"))
        )
        return {row.event_id: set(row.codes) for row in codes.collect()}


def _letters(parts: Parts) -> DataFrame:
    """Dead letters in the lake, of the stream's envelopes or of rows of the table. Out: event_id (or NULL), code."""
    letters = dead_letters_table("lake", parts.settings.paths.lake_path).read(parts.spark)
    text = F.col("raw_value").cast("string")
    paths = ("$.after.id", "$.payload.after.id", "$.id")
    event_id = F.coalesce(*(F.get_json_object(text, path) for path in paths)).try_cast("bigint")
    own = F.when(F.col("topic") == TABLE_TOPIC, F.col("kafka_offset"))
    return letters.select(F.coalesce(own, event_id).alias("event_id"), "code")
