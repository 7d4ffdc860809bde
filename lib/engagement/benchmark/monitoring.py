"""What looking costs: the board's freshness with and without all monitoring, and with and without 200 requests/s.

The streaming job runs inside the process of the benchmark, so that its measuring can be switched; the services, the
generator and the API are processes of their own. Both ways take turns, so that their ratio holds on a busy machine.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import psutil
import requests
from redis import Redis

from engagement.benchmark.arms import Arm, Turns, take_turns
from engagement.benchmark.bench import Bench, MeasuredReport
from engagement.benchmark.load import SteadyLoad, scraped_and_watched
from engagement.benchmark.pace import Pace, came
from engagement.benchmark.probing import probing
from engagement.demo.children import Child, free_metrics_port, metrics_url
from engagement.demo.probe import Freshness, FreshnessProbe
from engagement.settings import Settings
from engagement.streaming.build import build_job
from engagement.streaming.job import StreamingJob

REQUESTS_PER_SECOND = 200.0
PROBE_SECONDS = 0.05
READY_SECONDS = 180.0
WARM_UP_SECONDS = 45.0
WINDOW_MINUTES = 1
"""A probe's content must have left the window before its next turn, and at 20 probes a second that comes soon."""


@dataclass(frozen=True)
class MonitoringReport(MeasuredReport):
    """What was measured."""

    name: str
    rate: int
    """Rows per second that were asked for."""
    inserted_per_second: float
    """Rows per second that came into PostgreSQL while it was measured, probes included."""
    plain: Freshness | None
    """Commit -> visible without."""
    looked_at: Freshness | None
    """The same with monitoring, or with requests."""
    ratio: float | None
    """p99 with / p99 without."""
    request_p99_ms: Mapping[str, float]
    requests: int
    failures: int

    def summary(self) -> str:
        """The outcome in a line or two for a person."""
        if self.plain is None or self.looked_at is None:
            return "no probe was seen"
        seen = f"{self.plain.samples} and {self.looked_at.samples} probes"
        lines = [
            f"{self.name}: board p99 {self.plain.p99_ms:.0f} ms without, {self.looked_at.p99_ms:.0f} ms with: "
            f"{self.ratio} times (p50 {self.plain.p50_ms:.0f} and {self.looked_at.p50_ms:.0f} ms; {seen}); "
            f"{came(self.inserted_per_second, self.rate)}"
        ]
        if self.requests:
            each = ", ".join(f"{path} {value:.1f} ms" for path, value in self.request_p99_ms.items())
            lines.append(f"{self.requests} requests, {self.failures} failed; p99: {each}")
        return "\n".join(lines)


def run_api(bench: Bench) -> MonitoringReport | None:
    """Measure what 200 requests a second cost."""
    return _benchmark(bench).run("api", bench)


def run_monitoring(bench: Bench) -> MonitoringReport | None:
    """Measure what all monitoring costs."""
    return _benchmark(bench).run("monitoring", bench)


def _benchmark(bench: Bench) -> "MonitoringBenchmark":
    monitoring = bench.settings.monitoring
    port = free_metrics_port(monitoring)
    redis = bench.settings.redis.model_copy(update={"window_minutes": WINDOW_MINUTES})
    window = {"REDIS_AGGREGATION_WINDOW_MINUTES": str(WINDOW_MINUTES)}
    children = [
        bench.job("generate", "--mode", "continuous", "--rate", str(bench.rate)),
        bench.job("serve", METRICS_PORT=str(port), **window),
    ]
    settings = bench.settings.model_copy(update={"redis": redis})
    return MonitoringBenchmark(settings, children, metrics_url(monitoring, port))


class MonitoringBenchmark:
    """Opens nothing before `run`."""

    def __init__(self, settings: Settings, children: Sequence[Child], url: str) -> None:
        self._settings, self._children, self._url = settings, children, url
        self._redis = Redis.from_url(settings.redis.url.get_secret_value(), decode_responses=True, socket_timeout=5)
        self._pace = Pace.of(settings)
        self._load = SteadyLoad(url, self._paths, REQUESTS_PER_SECOND)

    def run(self, name: str, bench: Bench) -> MonitoringReport | None:
        """Measure `api` or `monitoring`; None when told to stop. Raises: EngagementError."""
        ended = threading.Event()
        bench.say("starting the streaming job, the generator and the API")
        job = build_job(self._settings, ("redis",), (), ended)
        streaming = threading.Thread(target=job.run)
        try:
            for child in self._children:
                child.start()
            streaming.start()
            with self._probing(bench.stop) as probe:
                probe.await_first(bench.stop, READY_SECONDS, ", ".join(str(child.log) for child in self._children))
                bench.say(f"warming up for {WARM_UP_SECONDS:.0f} s")
                bench.stop.wait(WARM_UP_SECONDS)
            arms, turns = self._arms(name, job), Turns(bench.seconds, bench.rounds)
            found = take_turns(lambda: self._probing(bench.stop), arms, turns, bench, self._pace)
        finally:
            ended.set()
            streaming.join()
            for child in self._children:
                child.stop()
        return self._report(name, bench.rate, found) if found else None

    def _probing(self, stop: threading.Event) -> AbstractContextManager[FreshnessProbe]:
        return probing(self._settings, stop, PROBE_SECONDS)

    def _arms(self, name: str, job: StreamingJob) -> list[Arm]:
        if name == "api":
            return [Arm("without requests", nullcontext), Arm("with requests", self._load.running)]
        return [
            Arm("without monitoring", lambda: self._unseen(job)),
            Arm("with monitoring", lambda: scraped_and_watched(self._url)),
        ]

    @contextmanager
    def _unseen(self, job: StreamingJob) -> Iterator[None]:
        """The API sleeps, and the job measures nothing."""
        api = psutil.Process(self._children[-1].pid)
        job.measuring.clear()
        api.suspend()
        try:
            yield
        finally:
            api.resume()
            job.measuring.set()

    def _paths(self) -> list[tuple[str, str]]:
        ids = [row["content_id"] for row in requests.get(f"{self._url}/top-content", timeout=5).json()["items"]]
        return [
            path
            for one in ids
            for path in (
                ("/health", "/health"),
                ("/top-content", "/top-content"),
                ("/content/{id}/stats", f"/content/{one}/stats"),
            )
        ]

    def _report(self, name: str, rate: int, found: Mapping[str, Freshness | None]) -> MonitoringReport:
        plain, looked_at = found.values()
        ratio = round(looked_at.p99_ms / plain.p99_ms, 3) if plain and looked_at else None
        latencies = self._load.latencies
        count = sum(map(len, latencies.seconds.values()))
        return MonitoringReport(
            name, rate, self._pace.rows_per_second, plain, looked_at, ratio,
            latencies.p99_ms(), count, latencies.failures,
        )  # fmt: skip
