"""How fast the streaming job works off what piled up while it was down, beside a reader that does nothing with it."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass

from confluent_kafka import Consumer, TopicPartition
from redis import Redis

from engagement.benchmark.bench import Bench, MeasuredReport
from engagement.benchmark.receiver import ANSWER_SECONDS, slow_receiver
from engagement.demo.children import Child
from engagement.errors import TransientError
from engagement.generator import Generator, Request
from engagement.monitoring.status import QueryState, QueryStatus, read_book
from engagement.settings import Settings
from engagement.sources.kafka import KafkaTopic, TopicPositions
from engagement.streaming.options import kafka_topic

_POLL_SECONDS = 0.05
_START_LIMIT_SECONDS = 180.0
_DRAIN_LIMIT_SECONDS = 300.0
_SETTLED_SECONDS = 2.0
_SETTLE_LIMIT_SECONDS = 600.0
"""What a connector that lags may take; whoever else writes into this database would be waited for for ever."""
_FETCH_MESSAGES = 10_000
_FETCH_SECONDS = 0.01
"""Short, for a fetch that does not get so many ends only then, and the last one's wait is on the reader's clock."""
_FIRST_ROWS = 100


@dataclass(frozen=True)
class DrainReport(MeasuredReport):
    """What a drain measured."""

    sink: str
    rows: int
    """Messages that had piled up."""
    start_seconds: float
    """From the start of the job's process until its query ran."""
    drain_seconds: float
    """From then until the sink held all of them; the JVM is cold at first, as after any start."""
    rows_per_second: float
    reader_rows_per_second: float
    """A bare Kafka client that reads the same messages, on the same machine a moment later."""
    reader_ratio: float
    """rows_per_second / reader_rows_per_second: what stays comparable on a busy machine."""

    def summary(self) -> str:
        """The outcome in a line for a person."""
        return (
            f"{self.sink}: {self.rows:,} messages in {self.drain_seconds:.1f} s: {self.rows_per_second:,.0f}/s "
            f"({self.reader_ratio:.2f} of a reader that only reads them, {self.reader_rows_per_second:,.0f}/s); "
            f"the job started in {self.start_seconds:.1f} s"
        )


class DrainBenchmark:
    """One drain of one sink on a running stack; the constructor starts nothing."""

    def __init__(self, settings: Settings, sink: str, job: Child, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._sink = sink
        self._job = job
        self._say = say
        self._topic = kafka_topic(settings.kafka)
        self._positions = TopicPositions(self._topic)
        self._redis = Redis.from_url(settings.redis.url.get_secret_value())

    def run(self, rows: int, stop: threading.Event) -> DrainReport | None:
        """Measure; None when told to stop. Raises: TransientError when a step takes minutes."""
        with closing(self._positions):
            try:
                return self._run(rows, stop)
            finally:
                self._job.stop()

    def _run(self, rows: int, stop: threading.Event) -> DrainReport | None:
        self._say("starting the job once, so that it has a place to go on from")
        self._start(stop)
        Generator(self._settings, Request(mode="batch", batch_size=_FIRST_ROWS), report=lambda _: None).run(stop)
        self._await_read(_FIRST_ROWS, stop)
        self._job.stop()
        starts = self._settled_ends(stop)
        self._say(f"inserting {rows:,} rows while it is down")
        Generator(self._settings, Request(mode="batch", batch_size=rows), report=lambda p: self._say(str(p))).run(stop)
        ends = self._settled_ends(stop)
        if stop.is_set():
            return None
        self._say("starting the job")
        began = time.time()
        running = self._start(stop)
        done = self._await_read(rows, stop)
        if stop.is_set():
            return None
        drain_seconds, reader = done - running, read_rate(self._topic, starts, ends)
        return DrainReport(
            sink=self._sink,
            rows=rows,
            start_seconds=round(running - began, 1),
            drain_seconds=round(drain_seconds, 2),
            rows_per_second=round(rows / drain_seconds),
            reader_rows_per_second=round(reader),
            reader_ratio=round(rows / drain_seconds / reader, 3),
        )

    def _start(self, stop: threading.Event) -> float:
        """Start the job and give the time at which its query ran."""
        before = time.time()
        self._job.start()

        def runs() -> float | None:
            status = self._status()
            since = status.state_since.timestamp() if status and status.state == QueryState.RUNNING else 0.0
            return since if since > before else None

        return self._await(runs, _START_LIMIT_SECONDS, stop)

    def _await_read(self, rows: int, stop: threading.Event) -> float:
        """Wait until the started job has delivered so many messages, and give the time at which it had."""

        def delivered() -> float | None:
            status = self._status()
            done = status is not None and status.rows.read >= rows and status.last_batch_at
            return done.timestamp() if done else None

        return self._await(delivered, _DRAIN_LIMIT_SECONDS, stop)

    def _await(self, answer: Callable[[], float | None], limit_seconds: float, stop: threading.Event) -> float:
        deadline = time.monotonic() + limit_seconds
        while not stop.is_set():
            found = answer()
            if found is not None:
                return found
            if time.monotonic() > deadline:
                raise TransientError(f"nothing after {limit_seconds:.0f} s; see {self._job.log}")
            stop.wait(_POLL_SECONDS)
        return time.time()

    def _settled_ends(self, stop: threading.Event) -> Mapping[int, int]:
        """The topic's ends once the connector brings nothing more."""
        return settled(self._ends, stop, _SETTLED_SECONDS, _SETTLE_LIMIT_SECONDS)

    def _ends(self) -> Mapping[int, int]:
        return {partition: end for partition, (_, end) in self._positions.bounds().items()}

    def _status(self) -> QueryStatus | None:
        return read_book(self._redis).queries.get(self._sink)


def settled(
    look: Callable[[], Mapping[int, int]], stop: threading.Event, quiet_seconds: float, limit_seconds: float
) -> Mapping[int, int]:
    """What `look` gives once that has not changed for a while, or when told to stop.

    Raises: TransientError when it still changes after the limit.
    """
    began = since = time.monotonic()
    ends = look()
    while time.monotonic() - since < quiet_seconds and not stop.wait(_POLL_SECONDS):
        if time.monotonic() - began > limit_seconds:
            raise TransientError(f"messages still come in after {limit_seconds:.0f} s: does something else write rows?")
        if (newer := look()) != ends:
            ends, since = newer, time.monotonic()
    return ends


def read_rate(topic: KafkaTopic, starts: Mapping[int, int], ends: Mapping[int, int]) -> float:
    """Messages per second of a bare client that reads some ranges and drops them."""
    left = {partition for partition, end in ends.items() if end > starts[partition]}
    consumer = Consumer({"group.id": "benchmark", "enable.auto.commit": False, **topic.client_properties})
    with closing(consumer):
        consumer.assign([TopicPartition(topic.topic, partition, starts[partition]) for partition in left])
        began, count = time.perf_counter(), 0
        while left and time.perf_counter() - began < _DRAIN_LIMIT_SECONDS:
            places = [(m.partition(), m.offset()) for m in consumer.consume(_FETCH_MESSAGES, _FETCH_SECONDS)]
            count += len(places)
            # The last offset is a transaction's marker, which no client gets to see.
            left -= {number for number, at in places if number is not None and (at or 0) >= ends[number] - 2}
        return count / (time.perf_counter() - began)


def run(bench: Bench) -> DrainReport | None:
    """`benchmark drain`."""
    if bench.sink == "external":
        bench.say(f"the receiver answers after {ANSWER_SECONDS * 1000:.0f} ms")
        slow_receiver(bench.settings.external)
    job = bench.job("stream", "--sinks", bench.sink)
    return DrainBenchmark(bench.settings, bench.sink, job, bench.say).run(bench.rows, bench.stop)
