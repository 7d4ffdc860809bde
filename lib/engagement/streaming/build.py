"""Settings to a runnable job: the only place that knows every class by name."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from pyspark.sql import SparkSession

from engagement.delivery.agreement import Agreement, OnLoss
from engagement.delivery.checkpoint import Checkpoint
from engagement.delivery.content import ContentHandle
from engagement.delivery.microbatch import MicroBatchRunner, Patience
from engagement.delivery.queries import QueryParts, QueryPlan, SinkQuery
from engagement.delivery.turns import Turns
from engagement.embedded.spark import prepared_session
from engagement.errors import ConfigError
from engagement.logs import writes_json
from engagement.monitoring.board import StatusBoard
from engagement.monitoring.client import redis_client
from engagement.monitoring.listener import ProgressListener, listen
from engagement.monitoring.measures import Measures
from engagement.schemas import DeadLetterCode
from engagement.session import forget_sockets
from engagement.settings import Settings
from engagement.sinks.base import Sink
from engagement.sinks.bigquery.sink import WarehouseSink
from engagement.sinks.delta.refused import RefusedRows
from engagement.sinks.delta.upkeep import UpkeepPlan
from engagement.sinks.external.ledger import DeliveryLedger
from engagement.sinks.external.receiver import Waiting
from engagement.sinks.external.sink import ExternalSink
from engagement.sinks.external.trip import Tally
from engagement.sinks.lake.sink import LakeOptions, LakeSink
from engagement.sinks.redis.sink import RedisSink
from engagement.sources.content import ContentCatalogue
from engagement.sources.kafka import BatchSize, KafkaTopic, TopicPositions
from engagement.streaming.batches import SLOW_BATCH, flushes, postings
from engagement.streaming.changes import TopicChanges, TopicElsewhere, TopicHistory
from engagement.streaming.external import external_options, measure_breaker, measure_requests
from engagement.streaming.job import PROCESS, RunningQuery, StatusWriter, StreamingJob
from engagement.streaming.options import catalogue_of, kafka_topic, now, redis_options, warehouse_options
from engagement.streaming.report import QueryReport
from engagement.workers import Workers

SINKS = ("redis", "warehouse", "external", "lake")
"""Sinks that exist, in the order in which they are listed."""

_APP_ID = "engagement"
_RETRY_DELAYS_SECONDS = (0.05, 0.1, 0.2, 0.4, *[1.0] * 60)
_RESTART_DELAYS_SECONDS = (0.5, 1.0, 2.0, 5.0)
_PY4J_LOG = "py4j.clientserver"
_TURN_SECONDS = 2.0
"""Longest wait of a slow sink for another one; they take turns of one to three seconds."""
_EXTERNAL_COMMITS = 6
"""Its commits come so much more often than the lake's."""


def sinks_to_run(settings: Settings, named: Sequence[str] = ()) -> tuple[str, ...]:
    """The sinks that were named, else all that have a destination. Raises: ConfigError."""
    needed = {
        "warehouse": ("BIGQUERY_PROJECT_ID or BIGQUERY_EMULATOR_HOST", settings.bigquery.is_set),
        "external": ("EXTERNAL_SYSTEM_URL", settings.external.url),
    }
    missing = {name: setting for name, (setting, address) in needed.items() if not address}
    if problems := [f"{missing[name]} is needed for --sinks {name}" for name in named if name in missing]:
        raise ConfigError(problems)
    return tuple(named) or tuple(name for name in SINKS if name not in missing)


def build_job(
    settings: Settings,
    sinks: Sequence[str],
    spark_options: Sequence[str],
    stop: threading.Event,
    skip_lost: Sequence[str] = (),
) -> StreamingJob:
    """Start Spark and put the job together; nothing else is opened before it runs.

    `skip_lost`: sinks that go on behind messages that Kafka no longer holds now.

    Raises: PermanentError when another driver has one of the checkpoints: here, ten seconds before each query takes its
    own, so that nobody waits for Spark to hear it.
    """
    for name in sinks:
        Checkpoint(settings.paths.checkpoint_path, name).ensure_free()
    json_logs = writes_json(settings.monitoring.log_format, sys.stderr)
    master = settings.processing.spark_master
    spark = prepared_session("engagement-stream", spark_options, master, json_logs=json_logs)
    topic = kafka_topic(settings.kafka)
    positions = TopicPositions(topic)
    catalogue = catalogue_of(settings, spark)
    builders = {"redis": _redis_query, "warehouse": _warehouse_query, "external": _external_query, "lake": _lake_query}
    measures = Measures(PROCESS)
    context = _Shared(settings, spark, topic, positions, catalogue, measures, stop, Turns(_TURN_SECONDS), skip_lost)
    queries = [builders[name](context) for name in sinks]
    listener = ProgressListener({each.query.name: each.board for each in queries})
    for session in {id(each.session): each.session for each in queries}.values():
        listen(session, listener)
    writer = StatusWriter(redis_client(settings.redis), measures)
    job = StreamingJob(queries, positions, writer, settings.processing.content_refresh_seconds, stop)
    job.tidy = partial(forget_sockets, spark)
    listener.listening = job.measuring.is_set
    return job


def refused_rows(settings: Settings) -> RefusedRows:
    """Where rows go that BigQuery refuses."""
    return RefusedRows(settings.paths.lake_path, "warehouse", DeadLetterCode.E_WAREHOUSE_REJECT, now)


@dataclass(frozen=True)
class _Shared:
    """What every query is built from."""

    settings: Settings
    spark: SparkSession
    topic: KafkaTopic
    positions: TopicPositions
    catalogue: ContentCatalogue
    measures: Measures
    """What sinks measure beside what every query reports."""
    stop: threading.Event
    turns: Turns
    """Of the slow sinks."""
    skip_lost: Sequence[str]
    """Sinks that go on behind messages that Kafka no longer holds at the start."""

    def is_stopping(self) -> bool:
        """Whether the job has been told to stop.

        A micro-batch that begins after that is refused, which is an error to Spark and to py4j: a person who stopped
        the job would be shown pages of it. Why a query really fails is told by the query itself.
        """
        if not self.stop.is_set():
            return False
        logging.getLogger(_PY4J_LOG).setLevel(logging.CRITICAL)
        self.spark.sparkContext.setLogLevel("OFF")
        return True


def _redis_query(shared: _Shared) -> RunningQuery:
    settings = shared.settings
    board = StatusBoard("redis", clock=time.time)
    report = QueryReport(board, time.time)
    content = ContentHandle(shared.catalogue)
    history = TopicHistory(shared.spark, shared.topic, shared.positions, content)
    sink = RedisSink(redis_options(settings.redis), history, report, _APP_ID)
    content.sums = sink
    plan = QueryPlan(
        trigger_seconds=settings.processing.interval_seconds,
        batch_size=BatchSize(settings.processing.batch_size),
        pool="redis",
        restart_delays_seconds=_RESTART_DELAYS_SECONDS,
    )
    changes = TopicChanges(shared.spark, shared.topic, content, report.content_refreshed, Workers.FIRST)
    # Kafka keeps far more than the window, and a board that is counted anew lacks what is lost, too.
    query = _query(shared, sink, changes, report, plan, OnLoss.SKIP)
    running = RunningQuery(query, content, board, shared.spark, lambda: sink.write_meta(content.newest.table))
    return replace(running, leads=True)


def _warehouse_query(shared: _Shared) -> RunningQuery:
    settings = shared.settings.bigquery

    def make(report: QueryReport) -> Sink:
        options, letters = warehouse_options(settings), refused_rows(shared.settings)
        return WarehouseSink(options, shared.positions.topic_id, report.visible, now, letters)

    return _slow_query(shared, "warehouse", make, *flushes(settings))


def _external_query(shared: _Shared) -> RunningQuery:
    settings = shared.settings
    compact = settings.lake.compact_files * _EXTERNAL_COMMITS
    upkeep = UpkeepPlan(compact, settings.lake.retention_hours, settings.external.retention_days)

    sinks: list[ExternalSink] = []

    def make(report: QueryReport) -> Sink:
        ledger = DeliveryLedger(shared.spark, settings.paths.lake_path, upkeep, now)
        waiting = Waiting(shared.stop.wait, shared.stop.is_set, now)
        options, topic_id = external_options(settings.external), shared.positions.topic_id
        elsewhere = TopicElsewhere(shared.topic, shared.positions)
        sinks.append(ExternalSink(options, ledger, topic_id, elsewhere, report, waiting))
        sinks[0].sent = partial(measure_requests, shared.measures)
        sinks[0].sent(Tally())  # nothing yet, and that is known
        return sinks[0]

    running = _slow_query(shared, "external", make, *postings(settings.external))
    return replace(running, measure=lambda measures: measure_breaker(sinks[0], measures))


def _lake_query(shared: _Shared) -> RunningQuery:
    settings = shared.settings

    def make(report: QueryReport) -> Sink:
        upkeep = UpkeepPlan(settings.lake.compact_files, settings.lake.retention_hours)
        lake = LakeOptions(settings.paths.lake_path, upkeep)
        return LakeSink(shared.spark, lake, shared.positions.topic_id, report.visible, now)

    return _slow_query(shared, "lake", make, settings.lake.interval_seconds, BatchSize(SLOW_BATCH))


def _slow_query(
    shared: _Shared, name: str, make: Callable[[QueryReport], Sink], trigger_seconds: float, size: BatchSize
) -> RunningQuery:
    """A query that keeps rows: its pool is named after the sink, and nothing lies beside its destination."""
    board = StatusBoard(name, clock=time.time)
    report = QueryReport(board, time.time)
    content = ContentHandle(shared.catalogue)
    plan = QueryPlan(
        trigger_seconds=trigger_seconds,
        batch_size=size,
        pool=name,
        restart_delays_seconds=_RESTART_DELAYS_SECONDS,
    )
    changes = TopicChanges(shared.spark, shared.topic, content, report.content_refreshed, Workers.GIVE_WAY)
    on_loss = OnLoss.SKIP_ONCE if name in shared.skip_lost else OnLoss.STAND_STILL
    query = _query(shared, make(report), changes, report, plan, on_loss)
    return RunningQuery(query, content, board, shared.spark, lambda: None)


def _query(
    shared: _Shared, sink: Sink, changes: TopicChanges, report: QueryReport, plan: QueryPlan, on_loss: OnLoss
) -> SinkQuery:
    settings, topic, positions = shared.settings, shared.topic, shared.positions
    checkpoint = Checkpoint(settings.paths.checkpoint_path, sink.name)
    patience = Patience(_RETRY_DELAYS_SECONDS, shared.stop.wait, shared.is_stopping, time.monotonic)
    runner = MicroBatchRunner(sink, checkpoint, changes, report, patience, _APP_ID)
    if changes.workers is Workers.GIVE_WAY:
        runner.turn = shared.turns.taken
    agreement = Agreement(sink, checkpoint, topic, positions, runner, settings.kafka.auto_offset_reset, on_loss)
    parts = QueryParts(sink, checkpoint, topic, agreement, runner, report, time.sleep)
    return SinkQuery(shared.spark, parts, plan, shared.stop)
