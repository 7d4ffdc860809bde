"""Settings to a runnable backfill."""

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from uuid import uuid4

from pyspark.sql import SparkSession

from engagement.backfill.ledger import Ledger
from engagement.backfill.progress import Audience
from engagement.backfill.run import Backfill, Pace, Source
from engagement.backfill.sources import LakeSource, TableSource, TopicSource
from engagement.backfill.teller import Teller
from engagement.delivery.content import ContentHandle
from engagement.embedded.spark import prepared_session
from engagement.errors import ConfigError
from engagement.identity import Fence
from engagement.project import PROJECT
from engagement.settings import Settings
from engagement.sinks.base import Loader, Sink
from engagement.sinks.bigquery.load import WarehouseLoader
from engagement.sinks.bigquery.sink import WarehouseSink
from engagement.sinks.delta.log import DeltaLog
from engagement.sinks.delta.tables import LakeTable
from engagement.sinks.external.backfill import ExternalLoader
from engagement.sinks.external.deliveries import deliveries_table
from engagement.sinks.external.receiver import Waiting
from engagement.sinks.lake.backfill import LakeLoader
from engagement.sinks.lake.sink import LakeOptions, LakeSink
from engagement.sinks.lake.tables import events_table
from engagement.sinks.redis.board import RedisBoard
from engagement.sinks.redis.client import connect
from engagement.sinks.redis.ranges import RangeWriter
from engagement.sinks.redis.rebuild import BoardRebuild
from engagement.sources.history import EventsTable, Span
from engagement.sources.kafka import KafkaTopic, TopicPositions
from engagement.streaming.build import refused_rows
from engagement.streaming.changes import TopicHistory
from engagement.streaming.external import external_options
from engagement.streaming.options import catalogue_of, kafka_topic, now, redis_options, warehouse_options

SOURCES = ("postgres", "lake", "kafka")
TABLES = ("warehouse", "lake")
"""Sinks that keep rows, and are filled unless others are named."""
RECEIVER = "external"
"""Filled only if named, by chunks of its own: small ones, since it is sent to no faster than its setting allows."""
KEEPERS = (*TABLES, RECEIVER)
"""Sinks of which a table tells what they have."""
SINKS = (*KEEPERS, "redis")
APP_ID = "engagement-backfill"
_SQL = PROJECT / "sql" / "backfill"
_RUN_CHARACTERS = 12
_RECEIVER_CHUNK_SECONDS = 5
_MOST_RECEIVER_ROWS = 50_000
"""Of a chunk, at whatever rate: a crash sends at most one again."""


@dataclass(frozen=True)
class Request:
    """What is to be filled from where."""

    span: Span
    source: str
    sinks: tuple[str, ...]


def sinks_to_fill(settings: Settings, source: str, named: Sequence[str]) -> tuple[str, ...]:
    """The sinks that were named, else the usual ones. Raises: ConfigError with every reason why that cannot be done."""
    problems, reachable = list[str](), settings.bigquery.is_set
    usual = [name for name in TABLES if name != source and (name != "warehouse" or reachable)]
    sinks = tuple(named) or tuple(usual)
    if "warehouse" in sinks and not reachable:
        problems.append("BIGQUERY_PROJECT_ID or BIGQUERY_EMULATOR_HOST is needed for --sinks warehouse")
    if source == "lake" and "lake" in sinks:
        problems.append("--source lake cannot fill the lake from itself")
    needed = {
        "EXTERNAL_SYSTEM_URL": (settings.external.url, RECEIVER in sinks),
        "KAFKA_BOOTSTRAP_SERVERS": (settings.kafka.bootstrap_servers, source != "postgres" or "redis" in sinks),
        "REDIS_URL": (settings.redis.url.get_secret_value(), "redis" in sinks),
    }
    problems += [
        f"{name} is not set, and is needed here" for name, (value, used) in needed.items() if used and not value
    ]
    if not sinks:
        problems.append("there is no sink to fill: name one with --sinks, or set BIGQUERY_PROJECT_ID")
    if problems:
        raise ConfigError(problems)
    return sinks


def events_of(settings: Settings) -> EventsTable:
    """The events table of the source database."""
    return EventsTable(settings.postgres.database_url.get_secret_value(), _SQL)


def start_spark(settings: Settings, spark_options: Sequence[str]) -> SparkSession:
    """Spark's JVM."""
    return prepared_session(APP_ID, spark_options, settings.processing.spark_master)


def build_backfills(
    settings: Settings, request: Request, spark: SparkSession, stop: threading.Event, audience: Audience
) -> list[Backfill]:
    """Put them together, one for the tables and one for the receiver; nothing is opened before they run."""
    receiver_rows = min(settings.external.backfill_rate * _RECEIVER_CHUNK_SECONDS, _MOST_RECEIVER_ROWS)
    found: list[Backfill] = []
    for group, rows in ((TABLES, settings.backfill.batch_size), ((RECEIVER,), receiver_rows)):
        names = tuple(name for name in request.sinks if name in group)
        if names:
            found.append(_backfill(settings, replace(request, sinks=names), rows, spark, stop, audience))
    return found


def _backfill(
    settings: Settings, request: Request, rows: int, spark: SparkSession, stop: threading.Event, audience: Audience
) -> Backfill:
    waiting = Waiting(stop.wait, stop.is_set, now)
    loaders = [loader_of(settings, name, spark, audience.say, waiting) for name in request.sinks]
    source: Source
    if request.source == SOURCES[0]:
        catalogue = catalogue_of(settings, spark)
        source = TableSource(spark, events_of(settings), catalogue, request.span, rows, now, stop, audience.say)
    else:
        source = _taken_source(settings, request, rows, spark, loaders)
    # Of lake and Kafka a plan holds what the streams of these sinks have taken: it is no plan for others.
    planned_for = () if request.source == SOURCES[0] and RECEIVER not in request.sinks else request.sinks
    identity = "|".join((events_of(settings).identity(), request.source, str(request.span), *planned_for))
    name = hashlib.sha256(identity.encode()).hexdigest()[:_RUN_CHARACTERS]
    ledger = Ledger(settings.paths.engagement_home / "backfill" / f"{name}.jsonl", _new_run, time.time)
    return Backfill(source, loaders, ledger, audience, Pace(time.monotonic, stop))


def loader_of(
    settings: Settings, name: str, spark: SparkSession, say: Callable[[str], None], waiting: Waiting
) -> Loader:
    """The loader of a sink that keeps rows, or of the receiver."""
    lake = settings.paths.lake_path
    if name == "lake":
        return LakeLoader(spark, lake, now)
    if name == RECEIVER:
        options, rate = external_options(settings.external), settings.external.backfill_rate
        return ExternalLoader(spark, lake, options, rate, Teller(say), waiting)
    guard = partial(events_of(settings).exclusively, "engagement backfill into the warehouse")
    return WarehouseLoader(warehouse_options(settings.bigquery), guard, now)


def recount_board(settings: Settings, spark: SparkSession) -> None:
    """Count the live ranking again from Kafka, beside the running one, and swap it in.

    The stream may run: what its micro-batches put into the former board after the swap was read is refused by the new
    one, whose fence lies before it, and is read from Kafka again. Raises: TransientError, PermanentSinkError.
    """
    topic, options = kafka_topic(settings.kafka), redis_options(settings.redis)
    with closing(TopicPositions(topic)) as positions, closing(connect(options)) as client:
        board = RedisBoard(client, options)
        board.open()
        content = ContentHandle(catalogue_of(settings, spark))
        content.refresh()
        history = TopicHistory(spark, topic, positions, content)
        BoardRebuild(board, RangeWriter(client, options), history, nullcontext, APP_ID).run("backfill")


def common_fence(settings: Settings, sinks: Sequence[str], spark: SparkSession) -> Fence:
    """The offsets below which the streams of all these sinks have delivered everything. Raises: TransientError."""
    lake, warehouse = settings.paths.lake_path, warehouse_options(settings.bigquery)
    with closing(TopicPositions(kafka_topic(settings.kafka))) as positions:
        topic_id = positions.topic_id
        ask: dict[str, Callable[[], Fence]] = {
            "lake": lambda: _fence_of(LakeSink(spark, LakeOptions(lake), topic_id, _nobody, now)),
            "warehouse": lambda: _fence_of(WarehouseSink(warehouse, topic_id, _nobody, now, refused_rows(settings))),
            RECEIVER: lambda: _delivered(deliveries_table(lake), topic_id()),
        }
        fences = [ask[name]() for name in sinks if name in ask]
    shared = set[int].intersection(*(set(fence) for fence in fences)) if fences else set[int]()
    return {partition: min(fence[partition] for fence in fences) for partition in shared}


def _fence_of(sink: Sink) -> Fence:
    try:
        sink.open()
        return sink.fence()
    finally:
        sink.close()


def _delivered(deliveries: LakeTable, topic_id: str) -> Fence:
    """The external sink's fence, asked without the sink, which would speak to the receiver."""
    deliveries.prepare()
    fence, _ = DeltaLog(deliveries).fence(topic_id)
    return fence.next_offsets if fence else {}


def _taken_source(
    settings: Settings, request: Request, rows: int, spark: SparkSession, loaders: Sequence[Loader]
) -> Source:
    """The lake or Kafka, as far as the sinks' streams have taken what is there."""
    topic = kafka_topic(settings.kafka)
    fence = partial(common_fence, settings, request.sinks, spark)
    taken_of = partial(_topic_and_tables, topic, loaders)
    if request.source == "lake":
        own_fence = partial(common_fence, settings, ("lake",), spark)
        return LakeSource(spark, events_table(settings.paths.lake_path), request.span, fence, own_fence, taken_of)
    positions, catalogue = TopicPositions(topic), catalogue_of(settings, spark)
    return TopicSource(spark, topic, positions, catalogue, request.span, rows, fence, taken_of)


def _topic_and_tables(topic: KafkaTopic, loaders: Sequence[Loader]) -> str:
    """The topic, and what loaders fill, which opens them. Raises: TransientError, PermanentSinkError."""
    for loader in loaders:
        loader.open()
    with closing(TopicPositions(topic)) as positions:
        return " ".join((positions.topic_id(), *(loader.destination() for loader in loaders)))


def _nobody(_times: object) -> None:
    """Nobody asks when rows became visible."""


def _new_run() -> str:
    return f"backfill_{uuid4().hex[:_RUN_CHARACTERS]}"
