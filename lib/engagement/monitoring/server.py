"""Wires the monitoring API from settings and serves it; the only place here that opens sockets."""

import json
import logging
import socket
import threading
from collections.abc import Collection
from pathlib import Path
from time import monotonic, sleep

import uvicorn
from fastapi import FastAPI

from engagement.dead_letters.table import LetterTable
from engagement.errors import EngagementError
from engagement.monitoring.api import ApiParts, Told
from engagement.monitoring.client import redis_client
from engagement.monitoring.destination_probes import (
    ExternalProbe,
    LakeProbe,
    WarehouseProbe,
    table_url,
    warehouse_session,
)
from engagement.monitoring.health import Clocks, HealthMonitor, Probe
from engagement.monitoring.letter_gauges import LetterGauges
from engagement.monitoring.measures import Measures
from engagement.monitoring.probes import PostgresProbe, RedisProbe
from engagement.monitoring.reader_probe import ReaderProbe
from engagement.monitoring.source_probes import ConnectProbe, KafkaProbe
from engagement.settings import BigQuerySettings, Settings
from engagement.sinks.redis.reader import EngagementReader

LOG = logging.getLogger("engagement.monitoring")
SLOTS_SQL = Path("sql/postgres/replication_slots.sql")
CONNECTOR = Path("conf/debezium/engagement.json")
"""Ours, registered under the file's name."""
NEWEST_SQL = Path("sql/postgres/newest_event.sql")
PROCESS = "serve"
"""This process's name among those that measure."""
SHUTDOWN_SECONDS = 3
LOOK_SECONDS = 0.5


def build_parts(settings: Settings, project: Path, embedded: Collection[str] = ()) -> ApiParts:
    """Return what the API is made of; services without an address are not asked, and say so in the log.

    `project` holds sql/ and conf/; `embedded` names the components that this project started itself.
    """
    clocks, measures = Clocks(), Measures(PROCESS)
    # A client each: readers that wait must not take the probe's connection.
    reader = EngagementReader(redis_client(settings.redis), settings.redis.top_key)
    redis_probe = RedisProbe(redis_client(settings.redis), clocks)
    others = _service_probes(settings, project, clocks) if settings.monitoring.enable_health_checks else []
    behind = _destination_probes(settings, project, measures) if settings.monitoring.enable_health_checks else []
    monitor = HealthMonitor([*others, redis_probe, *behind], clocks)
    return ApiParts(
        reader, monitor, lambda: Told(redis_probe.book, redis_probe.measures), measures, frozenset(embedded),
        settings.redis.window_minutes, clocks.wall, host=settings.monitoring.metrics_host,
    )  # fmt: skip


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket, port 0 taking a free one; EngagementError says what to do when it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise EngagementError(
            f"cannot listen on {host} port {port} ({error.strerror or error}): "
            "stop the program that uses it, or set METRICS_PORT or METRICS_HOST"
        ) from error
    # Head and body are sent apart; without this each answer waits 40 ms for a delayed acknowledgement. Connections
    # inherit it; asyncio sets it only on sockets that name their protocol, which this one does not.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def address(listener: socket.socket) -> str:
    """Return the address a browser on this machine can open."""
    host, port = listener.getsockname()[:2]
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def serve_until(app: FastAPI, listener: socket.socket, stop: threading.Event) -> None:
    """Serve until `stop` is set; EngagementError if the server ends by itself.

    The server runs in a thread, where uvicorn leaves signals alone: they belong to the command.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        # Named, since the emulator of BigQuery brings faster ones along, which would be taken and are not tested here.
        loop="asyncio",
        http="h11",
        ws="none",
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="monitoring-api", daemon=True)
    thread.start()
    while not stop.wait(LOOK_SECONDS):
        if not thread.is_alive():
            raise EngagementError("the monitoring API ended by itself; the log above says why")
    app.state.stopping.set()  # or the streams to open pages would hold up the end
    server.should_exit = True
    thread.join(2 * SHUTDOWN_SECONDS)


def _service_probes(settings: Settings, project: Path, clocks: Clocks) -> list[Probe]:
    database_url = settings.postgres.database_url.get_secret_value()
    kafka = settings.kafka
    probes: list[Probe] = []
    if database_url:
        slot = json.loads((project / CONNECTOR).read_text(encoding="utf-8"))["slot.name"]
        probes.append(PostgresProbe(database_url, (project / SLOTS_SQL).read_text(encoding="utf-8"), slot))
    if kafka.bootstrap_servers:
        probes.append(KafkaProbe(kafka.client_properties(), kafka.topic, clocks.monotonic))
    if kafka.connect_url:
        probes.append(ConnectProbe(str(kafka.connect_url), CONNECTOR.stem))
    asked = {probe.expects[0].component for probe in probes}
    for name in sorted({"postgres", "kafka", "connect"} - asked):
        LOG.warning("%s has no address in the settings, so /health says nothing about it", name)
    return probes


def _destination_probes(settings: Settings, project: Path, measures: Measures) -> list[Probe]:
    """What rows reach beside the ranking, and the reader who looks whether they do."""
    probes: list[Probe] = []
    if database_url := settings.postgres.database_url.get_secret_value():
        sql = (project / NEWEST_SQL).read_text(encoding="utf-8")
        own = EngagementReader(redis_client(settings.redis), settings.redis.top_key)
        probes.append(ReaderProbe(database_url, sql, own, measures, monotonic, sleep))
    if settings.bigquery.is_set:
        probes.append(_warehouse_probe(settings.bigquery))
    if settings.external.url:
        probes.append(ExternalProbe(settings.external.url))
    if settings.paths.lake_path:
        letters = LetterGauges(LetterTable(settings.paths.lake_path, project / "sql"), measures)
        probes.append(LakeProbe(settings.paths.lake_path, letters.look))
    return probes


def _warehouse_probe(settings: BigQuerySettings) -> Probe:
    emulator, credentials = settings.emulator_host, settings.credentials
    url = table_url(emulator, settings.project, settings.dataset_id, settings.table_id)
    return WarehouseProbe(lambda: warehouse_session(credentials, emulator=bool(emulator)), url)
