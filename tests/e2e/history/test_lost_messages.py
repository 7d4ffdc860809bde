"""A sink and its topic that no longer fit each other, on real parts: what is lost is named, what is there is taken."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from deltalake import DeltaTable
from redis import Redis
from tests import builders as b
from tests.e2e.support.processes import PATIENCE, await_that
from tests.e2e.support.warm import PausableStream
from tests.e2e.support.world import World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300 * PATIENCE)]

TOPIC = "engagement-lost"
LIMIT_SECONDS = 60


class Source:
    """A topic of one partition; event n of the first topic lies at offset n - 1."""

    def __init__(self, servers: str) -> None:
        self._servers = servers
        self._admin = AdminClient({"bootstrap.servers": servers})

    def make(self) -> None:
        def is_made() -> bool:
            try:
                self._admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result()
            except KafkaException:
                return False  # the former one is still being deleted
            return True

        await_that(is_made, LIMIT_SECONDS, lambda: "the topic cannot be made")

    def make_again(self) -> None:
        self._admin.delete_topics([TOPIC])[TOPIC].result()
        self.make()

    def send(self, ids: Sequence[int]) -> None:
        producer = Producer({"bootstrap.servers": self._servers})
        for number in ids:
            producer.produce(TOPIC, json.dumps(b.row(id=number)))
        assert producer.flush(LIMIT_SECONDS) == 0

    def lose_up_to(self, offset: int) -> None:
        """As when the retention has passed."""
        (lost,) = self._admin.delete_records([TopicPartition(TOPIC, 0, offset)]).values()
        lost.result()


@pytest.fixture
def job(world: World, tmp_path: Path) -> Iterator[PausableStream]:
    """A job with a topic, checkpoint, lake and Redis database of its own, not running yet."""
    world.without_job()
    url = world.env["REDIS_URL"].rsplit("/", 1)[0] + "/1"
    environment = world.job_environment(
        KAFKA_TOPIC_ENGAGEMENT_EVENTS=TOPIC, CHECKPOINT_PATH=str(tmp_path), LAKE_PATH=str(tmp_path / "tables"),
        REDIS_URL=url, REDIS_DB="1",
    )  # fmt: skip
    with closing(Redis.from_url(url, decode_responses=True)) as client:
        job = PausableStream(world.process, environment, client, ("redis", "lake"))
        try:
            yield job
        finally:
            job.release()
            client.flushdb()


def test_what_aged_out_of_kafka_is_named_and_what_is_there_is_taken(
    world: World, job: PausableStream, tmp_path: Path
) -> None:
    source, tables = Source(world.env["KAFKA_BOOTSTRAP_SERVERS"]), tmp_path / "tables"

    def held() -> list[int]:
        events = tables / "enriched_events"
        if not events.exists():
            return []
        return sorted(DeltaTable(events).to_pyarrow_table(columns=["event_id"])["event_id"].to_pylist())

    def await_events(*ids: int) -> None:
        await_that(lambda: held() == list(ids), LIMIT_SECONDS, lambda: f"the lake holds {held()}\n{job.tail()}")
        assert job.stop() == 0, job.tail()

    source.make()
    source.send(range(1, 31))
    job.start_and_wait()
    await_events(*range(1, 31))

    source.send(range(31, 51))
    source.lose_up_to(40)
    job.start()
    await_that(lambda: job.status("lake").get("state") == "failed", LIMIT_SECONDS, job.tail)
    reason = str(job.status("lake")["reason"])
    assert f"{TOPIC}-0 [30, 40)" in reason
    assert "backfill" in reason
    await_that(lambda: job.status().get("state") == "running", LIMIT_SECONDS, job.tail)  # the ranking goes on
    assert job.stop() == 0, job.tail()
    assert not list(tmp_path.glob("lake.damaged-*"))

    job.options = ("--skip-lost", "lake")
    job.start_and_wait()
    await_events(*range(1, 31), *range(41, 51))

    job.options = ()
    shutil.rmtree(tables)
    job.start_and_wait()
    await_events(*range(41, 51))

    source.make_again()
    source.send(range(101, 161))  # beyond the offset at which the checkpoint would go on
    job.start_and_wait()
    await_events(*range(41, 51), *range(101, 161))
