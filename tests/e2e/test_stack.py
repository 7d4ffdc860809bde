"""The embedded services, real ones: rows arrive, whatever is killed comes back with its data, nothing stays behind."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psutil
import psycopg2
import pytest
import redis
import requests
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType
from tests.e2e.support.processes import await_that

from engagement.embedded.stack import Stack
from engagement.processes import family

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
PROJECT = Path(__file__).resolve().parents[2]
TOPIC = "engagement-events"
STATUSES = "engagement-connect-status"
ARRIVAL_SECONDS = 60.0
NAMES = ("postgres", "kafka", "redis", "bigquery", "receiver", "connect")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("engagement home"), {})
    stack.up()
    yield stack
    stack.down(purge=True)


@pytest.fixture
def running(stack: Stack) -> Stack:
    """The stack, whole, whatever the test before did to it."""
    stack.up()
    return stack


def insert(stack: Stack, content_id: str | None) -> int:
    """Insert one event (and its content), give its id."""
    with (
        closing(psycopg2.connect(stack.env()["DATABASE_URL"])) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        if content_id is not None:
            cursor.execute(
                "insert into content values (%s, %s, 'title', 'video', 100, now()) on conflict do nothing",
                (content_id, content_id),
            )
        cursor.execute(
            "insert into engagement_events (content_id, event_type, event_ts) values (%s, 'play', now()) returning id",
            (content_id,),
        )
        row = cursor.fetchone()
        assert row is not None
        return int(row[0])


def execute(stack: Stack, statement: str, *values: object) -> None:
    with (
        closing(psycopg2.connect(stack.env()["DATABASE_URL"])) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(statement, values)


def messages(stack: Stack, event_id: int, count: int = 1) -> list[Message]:
    """Read the topic from its start until `count` messages about an event are there."""
    settings = {"bootstrap.servers": stack.env()["KAFKA_BOOTSTRAP_SERVERS"], "group.id": str(uuid.uuid4())}
    found: list[Message] = []
    with closing(Consumer({**settings, "isolation.level": "read_committed", "log_level": 0})) as consumer:
        consumer.assign([TopicPartition(TOPIC, partition, 0) for partition in range(3)])
        deadline = time.monotonic() + ARRIVAL_SECONDS
        while len(found) < count and time.monotonic() < deadline:
            message = consumer.poll(1.0)
            if message is not None and message.error() is None and event_id_of(message) == event_id:
                found.append(message)
    assert len(found) == count, f"event {event_id}: {len(found)} of {count} messages arrived"
    return found


def envelope(message: Message) -> dict[str, Any]:
    return dict(json.loads(message.value() or b"{}"))


def event_id_of(message: Message) -> int | None:
    row = envelope(message).get("after") or envelope(message).get("before")
    return row["id"] if row else None


def pids(stack: Stack) -> dict[str, int | None]:
    return {status.name: status.pid for status in stack.status()}


def test_everything_runs_after_up(running: Stack) -> None:
    assert {status.name: status.state for status in running.status()} == dict.fromkeys(NAMES, "running")


def test_only_the_ports_that_are_noted_are_open_and_on_loopback_only(running: Stack) -> None:
    processes = [process for pid in pids(running).values() for process in family(pid)]
    open_ports = {
        (connection.laddr.ip.removeprefix("::ffff:"), connection.laddr.port)
        for process in processes
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    noted = json.loads((running.home / "ports.json").read_text())
    assert open_ports == {("127.0.0.1", port) for port in noted.values()}


def test_a_committed_row_is_in_kafka_under_its_content_as_plain_text(running: Stack) -> None:
    content_id = str(uuid.uuid4())
    (message,) = messages(running, insert(running, content_id))
    assert message.key() == content_id.encode()
    assert envelope(message)["op"] == "c"
    assert set(envelope(message)) >= {"before", "after", "op", "source"}


def test_a_row_without_content_has_no_key_and_harms_nobody(running: Stack) -> None:
    (message,) = messages(running, insert(running, None))
    assert message.key() is None
    assert messages(running, insert(running, str(uuid.uuid4())))


def test_a_row_that_moves_to_another_content_leaves_one_key_and_enters_the_other(running: Stack) -> None:
    old, new = str(uuid.uuid4()), str(uuid.uuid4())
    event_id = insert(running, old)
    insert(running, new)
    execute(running, "update engagement_events set content_id = %s where id = %s", new, event_id)
    seen = {(envelope(message)["op"], message.key()): message for message in messages(running, event_id, count=3)}
    assert (
        dict(seen[("d", old.encode())].headers() or [])["__debezium.newkey"]
        == json.dumps({"content_id": new}).replace(": ", ":").encode()
    )
    assert "__debezium.oldkey" in dict(seen[("c", new.encode())].headers() or [])


def test_an_update_and_a_delete_carry_the_whole_row_as_it_was(running: Stack) -> None:
    event_id = insert(running, str(uuid.uuid4()))
    execute(running, "update engagement_events set duration_ms = 5 where id = %s", event_id)
    execute(running, "delete from engagement_events where id = %s", event_id)
    created, updated, deleted = (envelope(message) for message in messages(running, event_id, count=3))
    assert (created["op"], updated["op"], deleted["op"]) == ("c", "u", "d")
    assert updated["before"] == created["after"]
    assert deleted["before"] == updated["after"]


def test_the_topic_is_as_the_contract_says(running: Stack) -> None:
    admin = AdminClient({"bootstrap.servers": running.env()["KAFKA_BOOTSTRAP_SERVERS"], "log_level": 0})
    resource = ConfigResource(ResourceType.TOPIC, TOPIC)
    settings = {name: entry.value for name, entry in admin.describe_configs([resource])[resource].result().items()}
    assert len(admin.list_topics(TOPIC, timeout=10.0).topics[TOPIC].partitions) == 3
    assert settings["cleanup.policy"] == "delete"
    assert settings["retention.ms"] == str(7 * 24 * 3600 * 1000)
    assert settings["max.message.bytes"] == str(16 * 1024 * 1024)
    assert settings["message.timestamp.type"] == "LogAppendTime"


def test_debezium_may_read_the_events_and_nothing_else(running: Stack) -> None:
    secrets = (running.home / "secrets" / "stack.properties").read_text()
    password = next(line for line in secrets.splitlines() if line.startswith("debezium_password=")).split("=", 1)[1]
    url = urlsplit(running.env()["DATABASE_URL"])
    as_debezium = urlunsplit(url._replace(netloc=f"debezium:{password}@{url.hostname}:{url.port}"))
    with closing(psycopg2.connect(as_debezium)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("select count(*) from engagement_events")
        for forbidden in ("select * from content", "delete from engagement_events", "create table mine (id int)"):
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute(forbidden)


def test_the_rest_interface_does_not_show_the_password(running: Stack) -> None:
    secrets = (running.home / "secrets" / "stack.properties").read_text()
    answer = requests.get(f"{running.env()['KAFKA_CONNECT_URL']}/connectors?expand=info&expand=status", timeout=30)
    assert not [line for line in secrets.splitlines() if line.split("=", 1)[1] in answer.text]


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_service_comes_back_with_its_data(running: Stack, name: str) -> None:
    before = insert(running, str(uuid.uuid4()))
    with closing(redis.Redis.from_url(running.env()["REDIS_URL"])) as client:
        client.set("kept", before)
    pid = pids(running)[name]
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=10)
    assert name in running.heal()
    assert messages(running, before)
    assert messages(running, insert(running, str(uuid.uuid4())))
    with closing(redis.Redis.from_url(running.env()["REDIS_URL"])) as client:
        assert client.get("kept") is not None


def test_all_killed_at_once_come_back(running: Stack) -> None:
    before = insert(running, str(uuid.uuid4()))
    messages(running, before)
    for pid in pids(running).values():
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    running.up()
    assert messages(running, before)
    assert messages(running, insert(running, str(uuid.uuid4())))


def test_a_connector_that_somebody_removed_is_registered_again(running: Stack) -> None:
    url = f"{running.env()['KAFKA_CONNECT_URL']}/connectors"
    requests.delete(f"{url}/engagement", timeout=30).raise_for_status()
    while requests.get(f"{url}/engagement/status", timeout=30).status_code != requests.codes.not_found:
        pass
    assert running.heal() == ["connect"]
    assert messages(running, insert(running, str(uuid.uuid4())))


def test_the_slot_moves_on_though_only_other_tables_are_written(running: Stack) -> None:
    execute(running, "insert into content select gen_random_uuid(), gen_random_uuid()::text, 't', 'video', 1, now()")
    with closing(psycopg2.connect(running.env()["DATABASE_URL"])) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("select pg_current_wal_lsn()")
        written = cursor.fetchone()
        behind = True
        deadline = time.monotonic() + ARRIVAL_SECONDS
        while behind and time.monotonic() < deadline:
            cursor.execute("select pg_sleep(0.2), confirmed_flush_lsn < %s from pg_replication_slots", written)
            row = cursor.fetchone()
            behind = row is None or bool(row[1])
    assert not behind


def test_healing_a_healthy_stack_touches_nothing(running: Stack) -> None:
    before = pids(running)
    assert running.heal() == []
    assert pids(running) == before


def test_two_starts_at_once_agree_on_one_stack(running: Stack) -> None:
    running.down()
    command = [sys.executable, "-m", "jobs.stack", "up"]
    env = {**os.environ, "ENGAGEMENT_HOME": str(running.home), "PYTHONPATH": f"{PROJECT / 'lib'}:{PROJECT}"}
    both = [subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=200)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum("ready in" in line for text in said for line in text.splitlines()) == len(NAMES)
    assert all(status.state == "running" for status in running.status())


def test_down_leaves_no_process_and_the_next_up_finds_the_data_at_the_same_addresses(running: Stack) -> None:
    event_id = insert(running, str(uuid.uuid4()))
    messages(running, event_id)
    addresses = running.env()
    old = [psutil.Process(pid) for pid in pids(running).values() if pid]
    old += [child for process in old for child in process.children(recursive=True)]
    running.down()
    assert [process for process in old if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []
    assert not running.env_file.exists()
    running.up()
    assert running.env() == addresses
    assert messages(running, event_id)


def test_the_settings_file_is_private_and_says_what_env_says(running: Stack) -> None:
    assert running.env_file.stat().st_mode & 0o777 == 0o600
    assert running.env_file.read_text() == running.env_lines()


def test_a_connector_that_is_nobodys_in_its_status_only_says_again_that_it_runs(running: Stack) -> None:
    """A broker that is killed in the middle of a rebalance leaves it so; here somebody writes just that."""
    env = running.env()
    url = f"{env['KAFKA_CONNECT_URL']}/connectors/engagement/status"
    worker = requests.get(url, timeout=5).json()["connector"]["worker_id"]
    said = {"state": "UNASSIGNED", "trace": None, "worker_id": worker, "generation": 1_000_000, "version": None}
    producer = Producer({"bootstrap.servers": env["KAFKA_BOOTSTRAP_SERVERS"]})
    producer.produce(STATUSES, key="status-connector-engagement", value=json.dumps(said))
    assert producer.flush(10) == 0

    def state() -> str:
        return str(requests.get(url, timeout=5).json()["connector"]["state"])

    await_that(lambda: state() == "UNASSIGNED", 20, lambda: f"it is {state()}")
    assert "connect" in running.heal()
    assert state() == "RUNNING"
    messages(running, insert(running, None))
