"""Messages that nobody should send, through the running job: no batch fails, each has the outcome of the reference."""

import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from redis import Redis
from tests.builders import KAFKA_TS, LSN
from tests.builders import Message as FuzzMessage
from tests.e2e.support.lake import LakeOracle
from tests.e2e.support.processes import PATIENCE, await_that
from tests.e2e.support.topic import Topic
from tests.e2e.support.warm import PausableStream
from tests.e2e.support.world import World
from tests.reference.fuzz import mutations

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600 * PATIENCE)]

MESSAGES = int(os.environ.get("FUZZ_MESSAGES", "50000"))
SEED = int(os.environ.get("FUZZ_SEED", "20261123"))
TOPIC = "engagement-fuzz"
DATASET = "engagement_fuzz"
PARTITIONS = 3
MAX_BYTES = 16 * 1024 * 1024
DRAIN_SECONDS = 180
FIRST_LSN = 40_000_000
FIRST_COMMIT_MS = 1_795_446_000_000
"""As the builders have it."""
Fuzzed = tuple[FuzzMessage, bytes | None]
TOPIC_CONFIG = {
    "max.message.bytes": str(MAX_BYTES),
    # Messages carry the time that the generator's rows are made for, whatever the clock of this machine says.
    "message.timestamp.type": "CreateTime",
    "message.timestamp.after.max.ms": str(2**63 - 1),
    "retention.ms": "-1",
}


@pytest.fixture
def fuzz_job(world: World, tmp_path: Path) -> Iterator[PausableStream]:
    """A job on a topic, checkpoint and Redis database of its own, running before the first message."""
    world.without_job()
    make_topic(world.env["KAFKA_BOOTSTRAP_SERVERS"])
    url = world.env["REDIS_URL"].rsplit("/", 1)[0] + "/1"
    environment = world.job_environment(
        KAFKA_TOPIC_ENGAGEMENT_EVENTS=TOPIC, CHECKPOINT_PATH=str(tmp_path), LAKE_PATH=str(tmp_path / "tables"),
        REDIS_URL=url, REDIS_DB="1", BIGQUERY_DATASET_ID=DATASET,
    )  # fmt: skip
    with closing(Redis.from_url(url, decode_responses=True)) as client:
        job = PausableStream(world.process, environment, client, ("redis", "warehouse", "lake"))
        try:
            job.start_and_wait()
            yield job
        finally:
            job.release()
            client.flushdb()


def placed(number: int, value: bytes) -> bytes:
    """A message at a place of its own in the source; the generator has all in one, which would be repeats."""
    for old, new in ((LSN, lsn_of(number)), (LSN - 8, lsn_of(number) - 8), (FIRST_COMMIT_MS, FIRST_COMMIT_MS + number)):
        value = value.replace(str(old).encode(), str(new).encode())
    return value


def lsn_of(number: int) -> int:
    return FIRST_LSN + 16 * number


def is_in_order(number: int, value: bytes) -> bool:
    """Whether no mutation has given it another place: a source that lies about its order has no right outcome."""
    try:
        document = json.loads(value)
    except (ValueError, RecursionError):
        return True
    while isinstance(document, dict) and "payload" in document:
        document = document["payload"]
    source = document.get("source") if isinstance(document, dict) else None
    if not isinstance(source, dict):
        return True
    honest = {
        "sequence": f'["{lsn_of(number) - 8}","{lsn_of(number)}"]',
        "lsn": lsn_of(number),  # a row's version: the same one twice is the source's repeat, which is there once
        "ts_ms": FIRST_COMMIT_MS + number,
    }
    # Without a commit's place and its time nothing tells a newer message from a repeat of an older one.
    is_placed = "sequence" in source or "ts_ms" in source
    return is_placed and all(source.get(name, value) == value for name, value in honest.items())


def fuzz(count: int) -> Iterator[Fuzzed]:
    """So many messages, each with the bytes to send."""
    sent = 0
    for number, message in enumerate(mutations(SEED)):
        value = None if message.value is None else placed(number, message.value)
        if sent == count:
            return
        if value is None or is_in_order(number, value):
            sent += 1
            yield message, value


def make_topic(servers: str) -> None:
    topic = NewTopic(TOPIC, num_partitions=PARTITIONS, replication_factor=1, config=TOPIC_CONFIG)
    admin = AdminClient({"bootstrap.servers": servers})
    for made in admin.create_topics([topic]).values():
        made.result()


def produce(servers: str, count: int) -> None:
    """Send the mutations, spread over the partitions."""
    options: dict[str, str | int] = {
        "bootstrap.servers": servers, "linger.ms": 50, "message.max.bytes": MAX_BYTES,
        "queue.buffering.max.kbytes": 256 * 1024,
    }  # fmt: skip
    producer = Producer(options)
    for number, (message, value) in enumerate(fuzz(count)):
        producer.poll(0)
        while len(producer) > 5_000:
            producer.poll(0.05)
        producer.produce(
            TOPIC, value=value, partition=number % PARTITIONS, timestamp=int(KAFKA_TS.timestamp() * 1000),
            headers=[(name, b"{}") for name in message.headers],
        )  # fmt: skip
    assert producer.flush(60) == 0


def test_every_fuzzed_message_has_exactly_the_outcome_of_the_reference(
    world: World, fuzz_job: PausableStream, tmp_path: Path
) -> None:
    servers = world.env["KAFKA_BOOTSTRAP_SERVERS"]
    produce(servers, MESSAGES)
    topic = Topic(servers, TOPIC)
    topic.read_on()
    expected = topic.outcomes.copy()

    def rows() -> dict[str, int]:
        return cast("dict[str, int]", fuzz_job.status().get("rows", {}))

    await_that(lambda: rows().get("read", 0) >= MESSAGES, DRAIN_SECONDS, lambda: f"{rows()}\n{fuzz_job.tail()}")
    totals = rows()
    told = f"seed {SEED}, expected {dict(expected)}, job {totals}\n{fuzz_job.tail()}"
    dead_letters = cast("dict[str, int]", totals["dead_letters"])
    changes = expected.pop("change", 0) + expected.pop("move", 0)
    tombstones = expected.pop("tombstone", 0)
    assert dead_letters == dict(expected), told
    assert totals["tombstones"] == tombstones
    assert totals["delivered"] + totals["moves"] == changes
    assert totals["already_delivered"] == 0
    assert totals["read"] == MESSAGES
    LakeOracle(topic, tmp_path / "tables").await_equality(DRAIN_SECONDS)
    world.warehouse_oracle(topic, DATASET).await_equality(DRAIN_SECONDS)
    assert "starting again" not in fuzz_job.text(), "a batch failed and was repeated"
    assert fuzz_job.status()["state"] == "running"
    assert fuzz_job.stop() == 0
