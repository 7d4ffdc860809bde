"""What is broken is said within ten seconds, by /health, metrics, alerts and page, and taken back once it heals.

Everything is real: the stack, the streaming job, `serve` as a process, Prometheus with this project's rules, Chromium.
"""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from confluent_kafka import Producer
from playwright.sync_api import Page
from prometheus_client.parser import text_string_to_metric_families
from tests.contract.page_support import CHROMIUM, chromium
from tests.e2e.support.processes import PATIENCE, JobProcess, await_that
from tests.e2e.support.prometheus import PROMETHEUS, Prometheus, running_prometheus
from tests.e2e.support.streams import Stream
from tests.e2e.support.workload import content_ids
from tests.e2e.support.world import TOPIC, World
from tests.prometheus.expressions import dashboard_expressions, metric_names, rule_expressions

from engagement.monitoring.catalogue import METRICS

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(300 * PATIENCE),
    pytest.mark.skipif(PROMETHEUS is None, reason="no prometheus on PATH (Debian: apt install prometheus)"),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH (Debian: apt install chromium)"),
]

SAID_SECONDS = 10.0
HEALED_SECONDS = 60.0
BURST = 300


@dataclass(frozen=True)
class Watch:
    """All that looks at the running chain."""

    url: str
    prometheus: Prometheus
    page: Page

    def status(self, component: str = "") -> str:
        """Of one component, or of the whole."""
        health = requests.get(f"{self.url}/health", timeout=5).json()
        return str(health["components"][component]["status"] if component else health["status"])

    def sick(self) -> dict[str, str]:
        """Reasons of the components that are not healthy."""
        components = requests.get(f"{self.url}/health", timeout=5).json()["components"]
        return {name: part["reason"] for name, part in components.items() if part["status"] != "healthy"}

    def metrics(self) -> dict[str, float]:
        """Every sample of a scrape, by name and labels."""
        families = text_string_to_metric_families(requests.get(f"{self.url}/metrics/prometheus", timeout=5).text)
        return {
            sample.name + "".join(f",{name}={sample.labels[name]}" for name in sorted(sample.labels)): sample.value
            for family in families
            for sample in family.samples
        }

    def component(self, name: str) -> float:
        """A component's health as a metric."""
        return self.metrics()[f"engagement_component_health_ratio,component={name}"]

    def page_says(self) -> str:
        """The whole, as a person reads it."""
        self.page.wait_for_timeout(1)  # lets the page's own events in
        return self.page.locator("#overall-text").inner_text()

    def await_all(self, limit_seconds: float, status: str, component: tuple[str, float], alert: str) -> float:
        """Wait until health, metrics, alerts and page all say so; `alert` with a `-` before it must not fire."""
        absent, name = alert.startswith("-"), alert.removeprefix("-")

        def said() -> dict[str, bool]:
            return {
                "health": self.status() == status,
                "metrics": self.component(component[0]) == component[1],
                "alerts": (name in self.prometheus.firing()) is not absent,
                "page": self.page_says().lower() == status,
            }

        return await_that(
            lambda: all(said().values()), limit_seconds, lambda: f"not all say {status}: {said()} {self.sick()}"
        )


@pytest.fixture(scope="module")
def watch(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    folder: Path = tmp_path_factory.mktemp("watch")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    serve = JobProcess("serve", (), world.job_environment(METRICS_PORT=port), world.home / "logs" / "serve.log")
    url = f"http://127.0.0.1:{port}"
    with ExitStack() as cleanup:
        serve.start()
        cleanup.callback(serve.kill)

        def answers() -> bool:
            try:
                return requests.get(f"{url}/health", timeout=5).status_code in (200, 503)
            except requests.ConnectionError:
                return False

        await_that(answers, 30, lambda: f"serve does not answer\n{serve.tail()}")
        prometheus = cleanup.enter_context(running_prometheus(folder, url))
        page = cleanup.enter_context(chromium()).new_page()
        page.goto(url)
        yield Watch(url, prometheus, page)


@pytest.fixture
def quiet(watch: Watch, job: Stream) -> Watch:
    """With the job running, and nothing wrong to begin with."""
    assert job.is_alive
    await_that(
        lambda: watch.status() == "healthy" and watch.page_says() == "Healthy",
        HEALED_SECONDS,
        lambda: f"something is wrong to begin with: {watch.sick()}",
    )
    return watch


def test_each_metric_of_a_rule_or_panel_is_in_a_real_scrape(world: World, quiet: Watch, job: Stream) -> None:
    with world.load():
        job.await_batches(3)
        seldom = {metric.sample for metric in METRICS.values() if not metric.always}
        used = set().union(*(metric_names(one) for one in [*rule_expressions(), *dashboard_expressions()]))
        wanted = (used | {metric.sample for metric in METRICS.values()}) - seldom - {"up"}

        def missing() -> set[str]:
            return wanted - {name.split(",")[0] for name in quiet.metrics()}

        await_that(lambda: not missing(), 40, lambda: f"no scrape has {sorted(missing())}")
    assert {name for name, value in quiet.metrics().items() if "conservation" in name and value} == set()


def test_no_answer_tells_a_secret_or_who_a_user_is(world: World, quiet: Watch, job: Stream) -> None:
    canaries, content_id = world.canaries(), content_ids()[0]
    with world.load():
        job.await_batches(3)
        kept = [entry.get("user_id", "") for _, entry in world.redis.xrange(f"recent_events:{content_id}")]
        assert canaries.in_text("recent events", "\n".join(kept)), "there is nothing to be told"
        content = [f"/content/{content_id}/{what}" for what in ("stats", "events")]
        for path in ("/", "/top-content", *content, "/health", "/metrics", "/metrics/prometheus"):
            answer = requests.get(f"{quiet.url}{path}", timeout=5)
            assert answer.ok, f"{path}: {answer.text}"
            assert canaries.in_text(path, answer.text) == []


def test_redis_dies(world: World, quiet: Watch) -> None:
    world.kill("redis")
    try:
        quiet.await_all(SAID_SECONDS, "unhealthy", ("redis", 0.0), "EngagementUnhealthy")
    finally:
        world.stack.up()
    quiet.await_all(HEALED_SECONDS, "healthy", ("redis", 1.0), "-EngagementUnhealthy")


def test_connect_dies(world: World, quiet: Watch) -> None:
    world.kill("connect")
    try:
        quiet.await_all(SAID_SECONDS, "unhealthy", ("connect", 0.0), "EngagementUnhealthy")
    finally:
        world.stack.up()
    quiet.await_all(HEALED_SECONDS, "healthy", ("connect", 1.0), "-EngagementUnhealthy")


def test_connect_hangs_and_so_the_source_falls_silent(world: World, quiet: Watch) -> None:
    pid = world.pid("connect")
    os.kill(pid, signal.SIGSTOP)
    try:
        quiet.await_all(SAID_SECONDS, "unhealthy", ("connect", 0.0), "EngagementUnhealthy")
        # Whatever Connect's own REST interface says, its heartbeat stays away.
        await_that(lambda: "EngagementSourceSilent" in quiet.prometheus.firing(), 20, "no alert of the silence")
        assert quiet.status("source") in ("degraded", "unhealthy")
    finally:
        os.kill(pid, signal.SIGCONT)
    quiet.await_all(HEALED_SECONDS, "healthy", ("source", 1.0), "-EngagementSourceSilent")


def test_the_receiver_hangs(world: World, quiet: Watch, job: Stream) -> None:
    """It takes connections all the same; so it is the sink that finds out, by EXTERNAL_SYSTEM_TIMEOUT."""
    failed = "engagement_requests_total,outcome=failed,sink=external"
    with world.load():
        job.await_batches(1, "external")
        before = quiet.metrics()[failed]
        world.receiver.fail({"delay_seconds": 60.0})
        quiet.await_all(SAID_SECONDS, "degraded", ("query:external", 0.5), "EngagementBreakerOpen")
        assert "timeout" in quiet.sick()["query:external"]
        assert quiet.metrics()[failed] > before
        world.receiver.heal()
        quiet.await_all(HEALED_SECONDS, "healthy", ("query:external", 1.0), "-EngagementBreakerOpen")
        job.await_batches(1, "external")


def test_dead_letters_pour_in(world: World, quiet: Watch) -> None:
    before = quiet.metrics().get("engagement_dead_letter_rows_total,code=E_JSON,sink=redis", 0.0)
    producer = Producer({"bootstrap.servers": world.env["KAFKA_BOOTSTRAP_SERVERS"]})
    for _ in range(BURST):
        producer.produce(TOPIC, value=b"{no JSON")
    producer.flush(10)

    def counted() -> float:
        return quiet.metrics().get("engagement_dead_letter_rows_total,code=E_JSON,sink=redis", 0.0)

    await_that(lambda: counted() == before + BURST, SAID_SECONDS, lambda: f"{counted() - before} are counted")
    await_that(lambda: "EngagementDeadLetterBurst" in quiet.prometheus.firing(), SAID_SECONDS, "no alert of the burst")
    await_that(lambda: quiet.status() == "degraded", SAID_SECONDS, lambda: f"/health says nothing: {quiet.sick()}")
    assert any("messages were refused (E_JSON)" in reason for reason in quiet.sick().values())
    await_that(lambda: quiet.page_says() == "Degraded", SAID_SECONDS, "the page says nothing")
    assert "E_JSON" in quiet.page.locator("#dead").inner_text()
    # A minute later it is over: alert and health look at what came within one.
    await_that(lambda: "EngagementDeadLetterBurst" not in quiet.prometheus.firing(), 100, "the alert does not end")
    await_that(lambda: quiet.status() == "healthy", HEALED_SECONDS, lambda: f"not healed: {quiet.sick()}")
