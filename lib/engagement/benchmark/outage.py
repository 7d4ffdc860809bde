"""What piles up while the receiver is away: how fast it is sent afterwards, in what order, and who notices."""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from deltalake import DeltaTable

from engagement.benchmark.bench import Bench, MeasuredReport
from engagement.benchmark.pace import Pace, came
from engagement.benchmark.probing import probing
from engagement.benchmark.receiver import Overtaken, Partner
from engagement.demo.probe import Freshness, FreshnessProbe
from engagement.errors import TransientError
from engagement.sinks.delta.log import DeltaLog
from engagement.sinks.external.deliveries import deliveries_table
from engagement.sources.kafka import TopicPositions
from engagement.streaming.options import kafka_topic

_READY_SECONDS = 180.0
_CALM_SECONDS = 45.0
"""Measured before the outage, after as long a warm-up."""
_DRAIN_LIMIT_SECONDS = 600.0
_POLL_SECONDS = 0.5
_CHANGES = ("--updates-pct", "5", "--deletes-pct", "2")
"""Without them no event would have versions that could arrive in the wrong order."""


@dataclass(frozen=True)
class OutageReport(MeasuredReport):
    """What was measured."""

    rate: int
    """Rows per second that were asked for."""
    inserted_per_second: float
    """Rows per second that came into PostgreSQL before, meanwhile and until all was sent, probes included."""
    outage_seconds: float
    waiting: int
    """Messages without an outcome when the receiver was back."""
    resumed_seconds: float
    """From then until the first of them had one on record: the sink had been waiting, up to a minute."""
    drain_seconds: float
    """From when it was back until each of them had one on record; what came meanwhile was sent beside them."""
    several_versions: int
    """Events of which the receiver got more than one version, over the whole run."""
    out_of_order: int
    """Versions that came after a newer one of their event, from the same Kafka partition; must be 0."""
    moved_out_of_order: int
    """The same from another partition: the update had moved the event to another content."""
    repeats: int
    """Keys that came again, over the whole run."""
    before: Freshness
    """Commit -> visible in the ranking, before the outage; the job writes to every sink."""
    meanwhile: Freshness
    """The same during the outage."""
    draining: Freshness
    """The same from its end until the backlog was sent."""

    def summary(self) -> str:
        """The outcome in a few lines for a person."""
        return (
            f"{self.waiting:,} messages waited after {self.outage_seconds:.0f} s: the first were sent after "
            f"{self.resumed_seconds:.1f} s, all of them after {self.drain_seconds:.1f} s; of {self.several_versions:,} "
            f"events with several versions {self.out_of_order} came out of order, and {self.moved_out_of_order} that "
            f"had moved between contents; {self.repeats} keys came again\n"
            f"ranking, p99: {self.before.p99_ms:.0f} ms before, {self.meanwhile.p99_ms:.0f} ms during the outage, "
            f"{self.draining.p99_ms:.0f} ms while the backlog was sent; {came(self.inserted_per_second, self.rate)}"
        )


@dataclass(frozen=True)
class _Passed:
    """What is known when all is sent, while the last probes are on their way."""

    waiting: int
    resumed_seconds: float
    drain_seconds: float
    before: Sequence[float]
    meanwhile: Sequence[float]


class OutageBenchmark:
    """One outage on a running stack; the constructor starts nothing."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._partner = Partner(bench.settings.external)
        self._positions = TopicPositions(kafka_topic(bench.settings.kafka))
        self._deliveries = deliveries_table(bench.settings.paths.lake_path)
        self._pace = Pace.of(bench.settings)

    def run(self) -> OutageReport | None:
        """Measure; None when told to stop. Raises: TransientError when a step takes minutes."""
        bench, job = self._bench, self._bench.job("stream")
        load = bench.job("generate", "--mode", "continuous", "--rate", str(bench.rate), *_CHANGES)
        load.start()
        try:
            job.start()
            with closing(self._positions), probing(bench.settings, bench.stop) as probe:
                probe.await_first(bench.stop, _READY_SECONDS, str(job.log))
                self._phase(probe, _CALM_SECONDS, "warm-up")
                with self._pace.measured():
                    passed = self._measure(probe)
            return None if bench.stop.is_set() else self._report(passed, probe.samples())
        finally:
            job.stop()
            load.stop()

    def _measure(self, probe: FreshnessProbe) -> _Passed:
        bench, topic_id = self._bench, self._positions.topic_id()
        before = self._phase(probe, _CALM_SECONDS, "before")
        self._partner.fail({"status": 503})
        meanwhile = self._phase(probe, bench.seconds, "the receiver answers 503")
        ends = {partition: end for partition, (_, end) in self._positions.bounds().items()}
        waiting = self._waiting(ends, topic_id)
        self._partner.heal()
        bench.say(f"the receiver is back, {waiting:,} messages wait")
        resumed, seconds = self._await_sent(ends, topic_id)
        return _Passed(waiting, resumed, seconds, before, meanwhile)

    def _report(self, passed: _Passed, draining: Sequence[float]) -> OutageReport:
        several, overtaken = self._partner.order()
        moved = self._moved(overtaken)
        return OutageReport(
            rate=self._bench.rate,
            inserted_per_second=self._pace.rows_per_second,
            outage_seconds=self._bench.seconds,
            waiting=passed.waiting,
            resumed_seconds=round(passed.resumed_seconds, 1),
            drain_seconds=round(passed.drain_seconds, 1),
            several_versions=several,
            out_of_order=len(overtaken) - moved,
            moved_out_of_order=moved,
            repeats=self._partner.repeats(),
            before=_found(passed.before),
            meanwhile=_found(passed.meanwhile),
            draining=_found(draining),
        )

    def _moved(self, overtaken: Sequence[Overtaken]) -> int:
        """How many of them came from another partition than the newer version."""
        ids = [each.event_id for each in overtaken]
        columns = ["event_id", "version", "kafka_partition"]
        rows = DeltaTable(self._deliveries.path).to_pyarrow_table(columns=columns, filters=[("event_id", "in", ids)])
        partition = {(row["event_id"], row["version"]): row["kafka_partition"] for row in rows.to_pylist()}
        return sum(partition[o.event_id, o.version] != partition[o.event_id, o.newer] for o in overtaken)

    def _phase(self, probe: FreshnessProbe, seconds: float, name: str) -> list[float]:
        self._bench.say(f"{name}: {seconds:.0f} s")
        self._bench.stop.wait(seconds)
        return probe.take()

    def _await_sent(self, ends: Mapping[int, int], topic_id: str) -> tuple[float, float]:
        """Seconds until the first outcome, and until the last."""
        began, resumed, waiting = time.monotonic(), 0.0, self._waiting(ends, topic_id)
        while left := self._waiting(ends, topic_id):
            if left < waiting and not resumed:
                resumed = time.monotonic() - began
            if time.monotonic() - began > _DRAIN_LIMIT_SECONDS:
                raise TransientError(f"still {left:,} messages wait")
            if self._bench.stop.wait(_POLL_SECONDS):
                break
        return resumed, time.monotonic() - began

    def _waiting(self, ends: Mapping[int, int], topic_id: str) -> int:
        """How many messages up to these offsets have no outcome on record."""
        fence, _ = DeltaLog(self._deliveries).fence(topic_id)
        done = fence.next_offsets if fence else {}
        return sum(max(0, end - done.get(partition, 0)) for partition, end in ends.items())


def _found(samples: Sequence[float]) -> Freshness:
    found = Freshness.of(samples)
    if found is None:
        raise TransientError("in one of the phases no probe was seen, so there is nothing to compare")
    return found


def run(bench: Bench) -> OutageReport | None:
    """`benchmark outage`."""
    return OutageBenchmark(bench).run()
