"""A receiver that fails, refuses, hangs or is killed, a driver that is killed: each row version arrives, by its key."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.support import checkpoints
from tests.e2e.support.processes import PATIENCE, await_that
from tests.e2e.support.receiver import ReceiverOracle
from tests.e2e.support.world import STATUS_KEY, TOPIC, StreamJob, World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300 * PATIENCE)]

CATCH_UP_SECONDS = 60
SINK = "external"
MOST_OF_A_ROUND = 20_000
"""Messages of a micro-batch at most (streaming/build.py)."""


class Posting:
    """A job that posts, and the receiver."""

    def __init__(self, world: World) -> None:
        env = world.env
        self.world = world
        self.job = StreamJob(
            world.job_environment(), world.redis, world.home / "logs" / "posting.log", "redis,external"
        )
        address = env["EXTERNAL_SYSTEM_URL"].removesuffix("/events")
        servers, token = env["KAFKA_BOOTSTRAP_SERVERS"], env["EXTERNAL_SYSTEM_TOKEN"]
        self.receiver = ReceiverOracle(servers, TOPIC, address, token, Path(env["LAKE_PATH"]))

    def reason(self) -> str:
        """Why the query waits."""
        text = self.world.redis.hget(STATUS_KEY, SINK)
        return str(json.loads(str(text))["reason"]) if text else ""

    def await_reason(self, text: str) -> None:
        """Wait until the query says so."""
        await_that(lambda: text in self.reason(), 60, lambda: f"{self.reason()!r}\n{self.job.tail()}")

    def kill_while_it_sends(self) -> None:
        """Power loss between a request, its answer and the record of it."""
        checkpoint = self.job.checkpoint(SINK)
        self.job.await_batches(1, SINK)
        await_that(lambda: checkpoints.is_mid_batch(checkpoint), 30, lambda: f"no micro-batch\n{self.job.tail()}")
        time.sleep(0.4)
        self.job.kill()


@pytest.fixture(scope="module")
def posting_world(world: World) -> Iterator[Posting]:
    posting = Posting(world)
    yield posting
    posting.job.kill()


@pytest.fixture
def posting(posting_world: Posting, job: StreamJob) -> Iterator[Posting]:
    """The job with both sinks, in the place of the one that writes to Redis only; the receiver serves as usual."""
    assert job.stop() == 0, job.tail()
    posting_world.world.stack.up()
    posting_world.receiver.heal()
    posting_world.job.start_and_wait()
    yield posting_world
    posting_world.receiver.heal()
    posting_world.job.kill()


def test_a_driver_killed_while_it_sends_repeats_at_most_a_round_and_then_none_for_a_lost_checkpoint(
    world: World, posting: Posting, record_property: pytest.FixtureRequest
) -> None:
    before = posting.receiver.stats()
    posting.receiver.fail({"delay_seconds": 0.3})
    with world.load(rate=400):
        posting.kill_while_it_sends()
        posting.job.start_and_wait()
        posting.kill_while_it_sends()
        checkpoints.lose_last_two_commits(posting.job.checkpoint(SINK))
        posting.job.start_and_wait()
        posting.kill_while_it_sends()
        checkpoints.lose_everything(posting.job.checkpoint(SINK))
        posting.receiver.heal()
        posting.job.start_and_wait()
        posting.job.await_batches(1, SINK)
    posting.receiver.await_equality(CATCH_UP_SECONDS)
    world.oracle.await_equality(CATCH_UP_SECONDS, least_events=500)
    after = posting.receiver.stats()
    repeats = after["repeats"] - before["repeats"]
    record_property("repeats", repeats)  # type: ignore[operator]
    print(f"three kills while sending: {repeats} repeats for a receiver that does not honour keys")  # noqa: T201
    assert repeats <= 3 * MOST_OF_A_ROUND
    assert after["conflicts"] == before["conflicts"]


def test_outages_of_the_receiver_delay_its_events_and_nothing_else(world: World, posting: Posting) -> None:
    with world.load(rate=400):
        for faults, reason in (
            (({"status": 500},), "500"),
            (({"status": 401},), "paused"),
            (({"status": 302, "location": "http://127.0.0.1:1/"},), "302"),
            (({"status": 429, "retry_after": "2", "count": 2}, {"truncate": True, "count": 2}), ""),
            (({"delay_seconds": 30.0},), "timeout"),
        ):
            posting.receiver.fail(*faults)
            if reason:
                posting.await_reason(reason)
                posting.job.await_batches(3, "redis")
            posting.receiver.heal()
            posting.job.await_batches(1, SINK)
    posting.receiver.await_equality(CATCH_UP_SECONDS)
    world.oracle.await_equality(CATCH_UP_SECONDS, least_events=500)


def test_a_job_whose_receiver_hangs_ends_when_told_to_and_one_that_is_killed_is_outlasted(
    world: World, posting: Posting
) -> None:
    posting.receiver.fail({"delay_seconds": 60.0})
    with world.load():
        posting.await_reason("timeout")
        assert posting.job.stop() == 0, posting.job.tail()
        posting.receiver.heal()
        posting.job.start_and_wait()
        world.kill("receiver")
        posting.await_reason("connection failed")
        assert world.stack.heal() == ["receiver"]
        posting.job.await_batches(1, SINK)
    posting.receiver.await_equality(CATCH_UP_SECONDS)
