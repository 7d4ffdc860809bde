"""The life of one sink's streaming query: start from the fence, watch, restart after a failure, stop between batches.

Each sink has its own thread here and its own query in Spark, so that a destination that is slow, away or refusing
holds up nobody else.

A sink can go back at any time. What it lacks is found at each start (agreement.py), with every micro-batch
(microbatch.py) and once a minute here.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from engagement.delivery.agreement import Agreement
from engagement.delivery.checkpoint import Checkpoint
from engagement.delivery.microbatch import MicroBatchRunner
from engagement.errors import (
    DataLossError,
    EngagementError,
    PermanentError,
    PermanentSinkError,
    TransientError,
    first_line,
)
from engagement.identity import Fence
from engagement.sinks.base import Sink
from engagement.sources.kafka import BatchSize, KafkaTopic
from engagement.transform.changes import narrow_messages

log = logging.getLogger(__name__)

_WATCH_SECONDS = 1
_LOOK_SECONDS = 60
"""So often a query is compared with its sink and its topic, and one that stands still is tried again."""
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
    agreement: Agreement
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
        self.begun = threading.Event()
        """Set once a first start has come to an end, whichever: nobody who let this query go first waits any longer."""
        self.standstill: EngagementError | None = None
        """Why this query alone stands still until somebody mends its sink; it looks once a minute."""

    @property
    def name(self) -> str:
        """The sink's name."""
        return self._parts.sink.name

    @property
    def taken(self) -> Fence | None:
        """Next offset per partition, as far as this query knows; None before its sink has told."""
        return self._parts.runner.taken

    def run(self, await_turn: Callable[[], object] = lambda: None) -> None:
        """Body of the query's thread: returns after `stop` was set, or with `failure` set.

        It begins once `await_turn` returns; its checkpoint is its own before that, or another driver could take it.
        """
        try:
            self._parts.checkpoint.lock()
            await_turn()
            self._run_until_stopped()
            if self.standstill is None:  # else it ends as it stood, and why goes on to be told
                self._parts.observer.state("stopped")
        except EngagementError as error:
            self._fail(error)
        except (Py4JError, ConnectionError) as error:
            # Spark's JVM was killed or has run out of memory; this process cannot bring it back, the next one can.
            self._fail(PermanentError(f"Spark's JVM does not answer any more: {first_line(error)}"))
        except Exception as error:
            # The main of this thread. Nobody foresaw this: the job says so and ends; it does not go on without a sink.
            log.exception("query %s has ended", self.name)
            self._fail(PermanentError(f"query {self.name}: {type(error).__name__}: {first_line(error)}"))
        finally:
            self.begun.set()
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
                self._watch(self._begin())
            except (PermanentSinkError, DataLossError) as error:
                self._stand_still(error)
            except PermanentError:
                raise
            except EngagementError as error:
                if self._stop.is_set():
                    log.info("query %s: %s", self.name, error)
                    return
                self.standstill = None
                failures = failures + 1 if self._parts.runner.last_batch_id is None else 1
                delays = self._plan.restart_delays_seconds
                delay = delays[min(failures, len(delays)) - 1]
                log.warning("query %s: %s; starting again in %.1f s", self.name, error, delay)
                self._parts.observer.state("waiting", str(error))
                self._stop.wait(delay)

    def _stand_still(self, error: EngagementError) -> None:
        """Until somebody has mended it; the other sinks go on."""
        self.standstill = error
        log.error("query %s: %s; looking again in %d s", self.name, error, _LOOK_SECONDS)
        self._parts.observer.state("failed", str(error))
        self._stop.wait(_LOOK_SECONDS)

    def _begin(self) -> StreamingQuery:
        try:
            return self._start()
        finally:
            self.begun.set()

    def _start(self) -> StreamingQuery:
        self._parts.observer.state("starting")
        self._parts.runner.begin()
        self._parts.agreement.begin()
        self._parts.sink.open()
        starting_offsets = self._parts.agreement.reach(self._await_fence)
        self._spark.sparkContext.setLocalProperty("spark.scheduler.pool", self._plan.pool)
        messages = self._parts.topic.stream(self._spark, starting_offsets, self._plan.batch_size)
        try:
            query = (
                narrow_messages(messages)
                .writeStream.queryName(self.name)
                .option("checkpointLocation", str(self._parts.checkpoint.path))
                .trigger(processingTime=f"{int(self._plan.trigger_seconds * 1000)} milliseconds")
                .foreachBatch(self._parts.runner)
                .start()
            )
        except (PySparkException, Py4JJavaError) as error:
            raise TransientError(f"Spark could not start the query: {first_line(error)}") from error
        self.standstill = None
        self._parts.observer.state("running")
        return query

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
        waited = 0
        while not self._stop.is_set():
            try:
                if query.awaitTermination(_WATCH_SECONDS):
                    return
            except PySparkException as error:
                raise self._parts.runner.error or TransientError(first_line(error)) from error
            waited += _WATCH_SECONDS
            if waited >= _LOOK_SECONDS:
                waited = 0
                try:
                    self._parts.agreement.check()
                except EngagementError:
                    self._finish(query)
                    raise
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
        try:
            query.stop()
        except (PySparkException, Py4JJavaError) as error:
            raise TransientError(f"Spark could not stop the query: {first_line(error)}") from error

    def _is_committed(self, batch_id: int) -> bool:
        return (self._parts.checkpoint.path / "commits" / str(batch_id)).exists()
