"""Kafka Connect with the Debezium connector: distributed, so that a change is written to Kafka exactly once."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

import requests

from engagement.embedded import kafka, postgres
from engagement.embedded.jars import debezium_plugin_dir
from engagement.embedded.process import ProcessSpec
from engagement.embedded.service import Service
from engagement.embedded.site import LOOPBACK, Site, http_answers, loopback_session, port_answers
from engagement.errors import StackError
from engagement.project import PROJECT

CONNECTOR = "engagement"
CONNECTOR_FILE = PROJECT / "conf" / "debezium" / "engagement.json"
REST_SECONDS = 30.0
TASK_SECONDS = 90.0
UNASSIGNED_SECONDS = 10.0
"""A connector that is nobody's for longer than a rebalance takes is so in its status only: a broker was away just when
its worker was to say that it runs. It says so when it is started again, and at no other time."""
POLL_SECONDS = 0.2
CONFLICT = 409
NOT_FOUND = 404
SERVER_ERROR = 500
RUNS = ["RUNNING", "RUNNING"]
WORKER = {
    "group.id": "engagement-connect",
    "exactly.once.source.support": "enabled",
    "key.converter": "org.apache.kafka.connect.storage.StringConverter",
    "value.converter": "org.apache.kafka.connect.json.JsonConverter",
    "config.storage.topic": "engagement-connect-configs",
    "offset.storage.topic": "engagement-connect-offsets",
    "status.storage.topic": "engagement-connect-status",
    "config.storage.replication.factor": "1",
    "offset.storage.replication.factor": "1",
    "status.storage.replication.factor": "1",
    "offset.storage.partitions": "1",
    "status.storage.partitions": "1",
    # The plugins list themselves; looking through every class of every jar takes seconds.
    "plugin.discovery": "service_load",
    # A killed worker is given up quickly, and its successor does not wait for it to come back.
    "session.timeout.ms": "4000",
    "heartbeat.interval.ms": "1000",
    "scheduled.rebalance.max.delay.ms": "0",
    "connector.client.config.override.policy": "All",
    # The database password is read from a file by the worker: the REST interface shows only the reference to it.
    "config.providers": "file",
    "config.providers.file.class": "org.apache.kafka.common.config.provider.FileConfigProvider",
}


class Connect(Service):
    """The worker and its one connector."""

    name: ClassVar[str] = "connect"
    variable: ClassVar[str] = "KAFKA_CONNECT_URL"
    usual_port: ClassVar[int] = 8083
    after: ClassVar[tuple[str, ...]] = ("postgres", "kafka")
    start_seconds: ClassVar[float] = 120.0

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._kafka = kafka.Kafka(site)
        self._rest = loopback_session()

    @property
    def url(self) -> str:
        """Its REST interface."""
        return f"http://{LOOPBACK}:{self.port}"

    def settings(self) -> dict[str, str]:
        """KAFKA_CONNECT_URL."""
        return {"KAFKA_CONNECT_URL": self.url}

    def address(self) -> str:
        """Its REST interface."""
        return self.url

    def prepare(self) -> None:
        """Write the worker's configuration."""
        port = self.site.choose_port(self.name, self.usual_port)
        self.folder.mkdir(parents=True, exist_ok=True)
        kafka.write_properties(
            self._config,
            {
                **WORKER,
                "bootstrap.servers": self.site.env.get(self._kafka.variable) or self._kafka.address(),
                "listeners": f"http://{LOOPBACK}:{port}",
                "plugin.path": str(debezium_plugin_dir()),
                "config.providers.file.param.allowed.paths": str(self.site.secrets_file.parent),
            },
        )

    def spec(self) -> ProcessSpec:
        """Run the worker."""
        command = (*kafka.java_command(("-Xms96m", "-Xmx384m")), "org.apache.kafka.connect.cli.ConnectDistributed")
        return self.process_spec((*command, str(self._config)), kafka.JAVA_ENVIRONMENT)

    def answers(self) -> bool:
        """Ask the REST interface; it answers once the worker has joined its group."""
        return port_answers(self.port) and http_answers(self._rest, f"{self.url}/connectors", REST_SECONDS)

    def settle(self) -> None:
        """Register the connector, unless it is there as it should be, and wait until its task runs."""
        wanted = {**self.connector(), "name": CONNECTOR}
        began = time.monotonic()
        deadline, restart_at = began + TASK_SECONDS, began + UNASSIGNED_SECONDS
        while not self._runs_with(wanted):
            if (now := time.monotonic()) > restart_at and "UNASSIGNED" in self._states():
                self._ask("POST", f"/connectors/{CONNECTOR}/restart?includeTasks=true&onlyFailed=false")
                restart_at = now + UNASSIGNED_SECONDS
            if now > deadline:
                raise StackError(self.name, f"the connector does not run: {self._trouble()}", log=self.log)
            time.sleep(POLL_SECONDS)

    def mend(self) -> bool:
        """Bring back a connector that is gone or has failed."""
        if not self.answers() or self._states() == RUNS:
            return False
        self.settle()
        return True

    def detail(self) -> str:
        """Name the state of connector and task."""
        states = self._states()
        return f"connector {states[0].lower()}, task {states[1].lower()}" if len(states) > 1 else "no task yet"

    def connector(self) -> dict[str, str]:
        """Fill conf/debezium/engagement.json in; the password stays a reference to a file unless the caller gave it."""
        values = {"@TOPIC@": self._kafka.topic, **self._database()}
        settings: dict[str, str] = json.loads(CONNECTOR_FILE.read_text())
        return {name: _filled(value, values) for name, value in settings.items()}

    def _database(self) -> dict[str, str]:
        """Say where the database is and who Debezium is there."""
        given = self.site.env.get("DATABASE_URL")
        if not given:
            secrets = self.site.secrets_file
            source = postgres.Postgres(self.site)
            parts = (LOOPBACK, source.port, postgres.DATABASE, postgres.REPLICATION_USER)
            return _placeholders(*parts, f"${{file:{secrets}:debezium_password}}")
        url = urlsplit(given)
        self.site.keep_secret("caller_database_password", unquote(url.password or ""))
        reference = f"${{file:{self.site.secrets_file}:caller_database_password}}"
        user = unquote(url.username or "")
        return _placeholders(
            url.hostname or LOOPBACK, url.port or postgres.Postgres.usual_port, url.path.lstrip("/"), user, reference
        )

    @property
    def _config(self) -> Path:
        return self.folder / "worker.properties"

    def _runs_with(self, wanted: Mapping[str, str]) -> bool:
        """Take one step towards a running connector with these settings; True when there is nothing left to do."""
        if self._ask("GET", f"/connectors/{CONNECTOR}/config") != wanted:
            self._ask("PUT", f"/connectors/{CONNECTOR}/config", wanted)
            return False
        states = self._states()
        if "FAILED" in states:
            self._ask("POST", f"/connectors/{CONNECTOR}/restart?includeTasks=true&onlyFailed=true")
        return states == RUNS

    def _states(self) -> list[str]:
        """Tell the states of the connector and of its tasks; empty when it is not registered."""
        status = self._ask("GET", f"/connectors/{CONNECTOR}/status")
        if not status:
            return []
        return [status["connector"]["state"], *(task["state"] for task in status["tasks"])]

    def _trouble(self) -> str:
        status = self._ask("GET", f"/connectors/{CONNECTOR}/status") or {}
        traces = [task.get("trace", "") for task in status.get("tasks", [])]
        return next((trace for trace in traces if trace), f"states {self._states()}")

    def _ask(self, method: str, path: str, body: Mapping[str, str] | None = None) -> dict[str, Any] | None:
        """Call the REST interface; None for "not there" and "busy, come again" (rebalancing, Kafka away).

        Raises:
            StackError: it refused, or went away.

        """
        try:
            answer = self._rest.request(method, f"{self.url}{path}", json=body, timeout=REST_SECONDS)
        except requests.RequestException as gone:
            raise StackError(self.name, f"its REST interface does not answer: {gone}", log=self.log) from gone
        if answer.status_code in (CONFLICT, NOT_FOUND) or answer.status_code >= SERVER_ERROR:
            return None
        if not answer.ok:
            raise StackError(self.name, f"{method} {path}: {answer.status_code} {answer.text[:1000]}", log=self.log)
        return dict(answer.json()) if answer.content else {}


def _placeholders(host: str, port: int, name: str, user: str, password: str) -> dict[str, str]:
    return {
        "@DATABASE_HOST@": host,
        "@DATABASE_PORT@": str(port),
        "@DATABASE_NAME@": name,
        "@DATABASE_USER@": user,
        "@DATABASE_PASSWORD@": password,
    }


def _filled(text: str, values: Mapping[str, str]) -> str:
    for placeholder, value in values.items():
        text = text.replace(placeholder, value)
    return text
