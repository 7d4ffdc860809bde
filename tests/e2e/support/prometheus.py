"""A real Prometheus with this project's rules, looking at a running API; only its address differs from conf/."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
import yaml
from tests.e2e.support.processes import PROJECT, await_that

PROMETHEUS = shutil.which("prometheus")
START_SECONDS = 30.0


class Prometheus:
    """What it says."""

    def __init__(self, url: str) -> None:
        self._url = url

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        alerts = requests.get(f"{self._url}/api/v1/alerts", timeout=5).json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def is_ready(self) -> bool:
        """Whether it has scraped the API."""
        try:
            answer = requests.get(f"{self._url}/api/v1/query", params={"query": "up"}, timeout=5)
        except requests.ConnectionError:
            return False
        if not answer.ok:  # it is still starting, and says so in plain text
            return False
        found = answer.json()
        return [sample["value"][1] for sample in found["data"]["result"]] == ["1"]


@contextmanager
def running_prometheus(folder: Path, api_url: str) -> Iterator[Prometheus]:
    """Start it on a free port of the loopback; nothing of it stays."""
    config = yaml.safe_load((PROJECT / "conf/prometheus/prometheus.yml").read_text())
    config["rule_files"] = [str(PROJECT / "conf/prometheus/alerts.yml")]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [api_url.removeprefix("http://")]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        str(PROMETHEUS), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}", "--log.level=error",
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=folder)
    try:
        prometheus = Prometheus(f"http://{address}")
        await_that(prometheus.is_ready, START_SECONDS, "Prometheus scrapes nothing")
        yield prometheus
    finally:
        process.terminate()
        process.wait(10)
