"""Whether the ranking notices another sink's trouble: its freshness alone, and beside a destination that is slow."""

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from urllib.parse import urlsplit

from engagement.benchmark.bench import Bench, MeasuredReport
from engagement.benchmark.pace import Pace, came
from engagement.benchmark.probing import probing
from engagement.benchmark.slow_proxy import SlowProxy
from engagement.demo.children import Child
from engagement.demo.probe import Freshness
from engagement.errors import TransientError
from engagement.settings import Settings

_READY_SECONDS = 180.0
_ANSWER_SECONDS = 20.0
_HANG_SECONDS = 30.0


@dataclass(frozen=True)
class IsolationReport(MeasuredReport):
    """What was measured."""

    rate: int
    """Rows per second that were asked for."""
    inserted_per_second: float
    """Rows per second that came into PostgreSQL while it was measured, probes included."""
    trouble: str
    alone: Freshness
    """Commit -> visible in the ranking without it: with Redis alone, or, for the external system, with all sinks."""
    beside: Freshness
    """The same while it writes to every sink, and one of them has the trouble."""
    p99_ratio: float
    """beside / alone."""

    def summary(self) -> str:
        """The outcome in a few lines for a person."""
        return (
            f"ranking alone: {_line(self.alone)}\n"
            f"beside {self.trouble}: {_line(self.beside)}\n"
            f"p99 ratio {self.p99_ratio:.2f}; {came(self.inserted_per_second, self.rate)}"
        )


class IsolationBenchmark:
    """Two jobs in turn on a running stack, under the same load; the constructor starts nothing."""

    def __init__(self, settings: Settings, load: Child, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._load = load
        self._say = say
        self.pace = Pace.of(settings)
        """What came meanwhile."""

    def run(
        self, alone: Child, beside: Child, rounds: int, seconds: float, stop: threading.Event
    ) -> tuple[list[float], list[float]] | None:
        """Commit -> visible in seconds, alone and beside, in `rounds` turns each; None when told to stop.

        The turns are A B, B A, A B …, so that a machine that gets slower or faster favours neither.
        Raises: TransientError when nothing is ranked for minutes.
        """
        found: dict[str, list[float]] = {"alone": [], "beside": []}
        turns = [("alone", alone), ("beside", beside)]
        self._load.start()
        try:
            for number in range(rounds):
                for name, job in turns if number % 2 == 0 else turns[::-1]:
                    self._say(f"round {number + 1} of {rounds}, {name}: {seconds:.0f} s after as long a warm-up")
                    found[name] += self._measure(job, seconds, stop)
                    if stop.is_set():
                        return None
        finally:
            self._load.stop()
        return found["alone"], found["beside"]

    def _measure(self, job: Child, seconds: float, stop: threading.Event) -> list[float]:
        job.start()
        try:
            with probing(self._settings, stop) as probe:
                probe.await_first(stop, _READY_SECONDS, str(job.log))
                stop.wait(seconds)
                probe.forget()
                with self.pace.measured():
                    stop.wait(seconds)
            return probe.samples()
        finally:
            job.stop()


def report(
    rate: int, inserted_per_second: float, trouble: str, alone: Sequence[float], beside: Sequence[float]
) -> IsolationReport:
    """Put the figures together. Raises: TransientError without samples."""
    quiet, loud = Freshness.of(alone), Freshness.of(beside)
    if quiet is None or loud is None:
        raise TransientError("no probe was seen, so there is nothing to compare")
    return IsolationReport(rate, inserted_per_second, trouble, quiet, loud, round(loud.p99_ms / quiet.p99_ms, 2))


def _line(seen: Freshness) -> str:
    return f"p50 {seen.p50_ms:.0f} ms, p99 {seen.p99_ms:.0f} ms, max {seen.max_ms:.0f} ms over {seen.samples} probes"


def run(bench: Bench) -> IsolationReport | None:
    """`benchmark isolation`: a destination answers late, the warehouse unless the external system is named."""
    return _external(bench) if bench.sink == "external" else _warehouse(bench)


def _warehouse(bench: Bench) -> IsolationReport | None:
    with ExitStack() as cleanup:
        rest, grpc = (
            cleanup.enter_context(SlowProxy(bench.environment[name], _ANSWER_SECONDS, greeting=greeting))
            for name, greeting in (("BIGQUERY_EMULATOR_HOST", False), ("BIGQUERY_EMULATOR_GRPC_HOST", True))
        )
        slow = {"BIGQUERY_EMULATOR_HOST": rest.address, "BIGQUERY_EMULATOR_GRPC_HOST": grpc.address}
        alone, beside = bench.job("stream", "--sinks", "redis"), bench.job("stream", **slow)
        return _compare(bench, f"all sinks, the warehouse answering after {_ANSWER_SECONDS:.0f} s", alone, beside)


def _external(bench: Bench) -> IsolationReport | None:
    """Every sink runs in both turns; in one of them the receiver hangs."""
    target = urlsplit(bench.environment["EXTERNAL_SYSTEM_URL"])
    with SlowProxy(target.netloc, _HANG_SECONDS, greeting=False) as proxy:
        alone, beside = (
            bench.job("stream", EXTERNAL_SYSTEM_URL=target._replace(netloc=netloc).geturl())
            for netloc in (target.netloc, proxy.address)
        )
        return _compare(bench, f"a receiver that answers after {_HANG_SECONDS:.0f} s", alone, beside)


def _compare(bench: Bench, trouble: str, alone: Child, beside: Child) -> IsolationReport | None:
    load = bench.job("generate", "--mode", "continuous", "--rate", str(bench.rate))
    benchmark = IsolationBenchmark(bench.settings, load, bench.say)
    found = benchmark.run(alone, beside, bench.rounds, bench.seconds, bench.stop)
    return None if found is None else report(bench.rate, benchmark.pace.rows_per_second, trouble, *found)
