"""The life of one sink's streaming query: start from the fence, watch, restart after a failure, stop between batches.

Each sink has its own thread here and its own query in Spark, so that a destination that is slow, away or refusing
holds up nobody else.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from engagement.delivery.checkpoint import Checkpoint
from engagement.delivery.microbatch import MicroBatchRunner
from engagement.errors import EngagementError, PermanentError, TransientError, first_line
from engagement.identity import Fence
from engagement.sinks.base import Sink
from engagement.sources.kafka import BatchSize, KafkaTopic, TopicPositions, to_starting_offsets
from engagement.transform.changes import narrow_messages

log = logging.getLogger(__name__)

_WATCH_SECONDS = 1
_FENCE_POLL_SECONDS = 0.2
_FENCE_POLLS = 600
_COMMIT_POLL_SECONDS = 0.05
_COMMIT_POLLS = 60


@dataclass(frozen=True)
class QueryPlan:
    """How a sink's query is run."""

    trigger_seconds: float
    """0 = the next micro-batch starts as soon as the last one is done."""
    batch_size: BatchSize
    pool: str
    """FAIR scheduler pool, from conf/fair-scheduler.xml."""
    restart_delays_seconds: tuple[float, ...]
    """Waits before the 1st, 2nd … restart in a row; the last one repeats."""
    starting_offsets: str
    """`earliest` or `latest`, for a sink without fence and without a rule of its own."""


class StateObserver(Protocol):
    """Told of every change of a query's state, for /health."""

    def state(self, state: str, reason: str = "") -> None:
        """The query is now `starting`, `running`, `waiting`, `stopping`, `stopped` or `failed`."""
        ...


@dataclass(frozen=True)
class QueryParts:
    """What a query is made of."""

    sink: Sink
    checkpoint: Checkpoint
    topic: KafkaTopic
    positions: TopicPositions
    runner: MicroBatchRunner
    observer: StateObserver
    sleep: Callable[[float], None]


class SinkQuery:
    """Runs one sink's query until told to stop; a failure that another try may cure restarts it."""

    def __init__(self, spark: SparkSession, parts: QueryParts, plan: QueryPlan, stop: threading.Event) -> None:
        self._spark = spark
        self._parts = parts
        self._plan = plan
        self._stop = stop
        self.failure: EngagementError | None = None
        """Set when the query ended for good; the job then ends with it."""

    @property
    def name(self) -> str:
        """The sink's name."""
        return self._parts.sink.name

    @property
    def taken(self) -> Fence:
        """Next offset per partition, as far as this query knows."""
        return self._parts.runner.taken

    def run(self) -> None:
        """Body of the query's thread: returns after `stop` was set, or with `failure` set."""
        try:
            self._parts.checkpoint.lock()
            self._run_until_stopped()
            self._parts.observer.state("stopped")
        except EngagementError as error:
            self._fail(error)
        except (Py4JError, ConnectionError) as error:
            # Spark's JVM was killed or has run out of memory; this process cannot bring it back, the next one can.
            self._fail(PermanentError(f"Spark's JVM does not answer any more: {first_line(error)}"))
        finally:
            # A JVM that died leaves its micro-batch behind, in a thread of py4j's: the sink is still in use there, and
            # a process that ends meanwhile is ended by a segmentation fault in whatever library is at work.
            with self._parts.runner.gate:
                self._parts.sink.close()
            self._parts.checkpoint.unlock()

    def _fail(self, error: EngagementError) -> None:
        self.failure = error
        self._parts.observer.state("failed", str(error))

    def _run_until_stopped(self) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                self._watch(self._start())
            except PermanentError:
                raise
            except EngagementError as error:
                if self._stop.is_set():
                    log.info("query %s: %s", self.name, error)
                    return
                failures = failures + 1 if self._parts.runner.last_batch_id is None else 1
                delays = self._plan.restart_delays_seconds
                delay = delays[min(failures, len(delays)) - 1]
                log.warning("query %s: %s; starting again in %.1f s", self.name, error, delay)
                self._parts.observer.state("waiting", str(error))
                self._stop.wait(delay)

    def _start(self) -> StreamingQuery:
        self._parts.observer.state("starting")
        self._parts.runner.begin()
        self._parts.sink.open()
        self._discard_damaged_checkpoint()
        self._spark.sparkContext.setLocalProperty("spark.scheduler.pool", self._plan.pool)
        messages = self._parts.topic.stream(self._spark, self._starting_offsets(), self._plan.batch_size)
        try:
            query = (
                narrow_messages(messages)
                .writeStream.queryName(self.name)
                .option("checkpointLocation", str(self._parts.checkpoint.path))
                .trigger(processingTime=f"{int(self._plan.trigger_seconds * 1000)} milliseconds")
                .foreachBatch(self._parts.runner)
                .start()
            )
        except PySparkException as error:
            raise TransientError(f"Spark could not start the query: {error}") from error
        self._parts.observer.state("running")
        return query

    def _discard_damaged_checkpoint(self) -> None:
        damage = self._parts.checkpoint.damage(self._parts.topic.topic, self._parts.positions.bounds())
        if damage is None:
            return
        aside = self._parts.checkpoint.set_aside()
        log.warning(
            "query %s: %s; the checkpoint was moved to %s and the query starts from the offsets that the sink holds",
            self.name,
            damage,
            aside,
        )

    def _starting_offsets(self) -> str:
        """Where a new checkpoint begins: the sink's fence, then the sink's own rule, then the setting."""
        fence = self._await_fence()
        self._parts.runner.taken = fence
        offsets = {**(self._parts.sink.start_without_fence() or {}), **fence}
        if not offsets:
            return self._plan.starting_offsets
        first = {number: bounds[0] for number, bounds in self._parts.positions.bounds().items()}
        return to_starting_offsets(self._parts.topic.topic, {**first, **offsets})

    def _await_fence(self) -> Fence:
        """Ask the sink until it knows: an empty board is counted from Kafka first, which takes seconds."""
        for _ in range(_FENCE_POLLS):
            try:
                return self._parts.sink.fence()
            except TransientError as error:
                self._parts.observer.state("waiting", str(error))
                if self._stop.wait(_FENCE_POLL_SECONDS):
                    break
        return self._parts.sink.fence()

    def _watch(self, query: StreamingQuery) -> None:
        while not self._stop.is_set():
            try:
                if query.awaitTermination(_WATCH_SECONDS):
                    return
            except PySparkException as error:
                raise self._parts.runner.error or TransientError(first_line(error)) from error
        self._parts.observer.state("stopping")
        self._finish(query)

    def _finish(self, query: StreamingQuery) -> None:
        """Stop between micro-batches: the one under way ends first, and Spark gets the time to note it as done."""
        with self._parts.runner.gate:
            done = self._parts.runner.last_batch_id
        for _ in range(_COMMIT_POLLS):
            if done is None or self._is_committed(done) or not query.isActive:
                break
            self._parts.sleep(_COMMIT_POLL_SECONDS)
        query.stop()

    def _is_committed(self, batch_id: int) -> bool:
        return (self._parts.checkpoint.path / "commits" / str(batch_id)).exists()
