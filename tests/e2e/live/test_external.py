"""A receiver that fails, refuses, hangs or is killed: each row version arrives all the same, under its key."""

import pytest
from tests.e2e.support.processes import PATIENCE, await_that
from tests.e2e.support.streams import Stream
from tests.e2e.support.world import CATCH_UP_SECONDS, World

from engagement.streaming.batches import EXTERNAL_BATCH

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300 * PATIENCE)]

SINK = "external"


def await_reason(job: Stream, text: str) -> None:
    """Wait until the query says why it waits."""
    await_that(lambda: text in str(job.status(SINK).get("reason")), 60, lambda: f"{job.status(SINK)}\n{job.tail()}")


def test_a_driver_killed_while_it_sends_repeats_at_most_a_round(world: World, job: Stream) -> None:
    """Power loss between a request, its answer and the record of it."""
    receiver = world.receiver
    with world.load(rate=400):
        job.await_batches(1, SINK)
        receiver.fail({"delay_seconds": 3.0})
        before = receiver.stats()
        # It has taken something, and its answer is still on its way: nothing of it can be on record.
        await_that(lambda: receiver.stats()["delivered"] > before["delivered"], 30, "nothing was sent")
        job.kill()
        receiver.heal()
        job.start_and_wait()
        job.await_batches(1, SINK)
    receiver.await_equality(CATCH_UP_SECONDS)
    repeats = receiver.stats()["repeats"] - before["repeats"]
    print(f"a kill while sending: {repeats} repeats for a receiver that honours no keys, 0 for one that does")  # noqa: T201
    assert 0 < repeats <= EXTERNAL_BATCH


def test_outages_of_the_receiver_lose_nothing(world: World, job: Stream) -> None:
    receiver = world.receiver
    with world.load(rate=400):
        for faults, reason in (
            (({"status": 500},), "500"),
            (({"status": 401},), "paused"),
            (({"status": 302, "location": "http://127.0.0.1:1/"},), "302"),
            (({"status": 429, "retry_after": "2", "count": 2}, {"truncate": True, "count": 2}), ""),
            (({"delay_seconds": 30.0},), "timeout"),
        ):
            receiver.fail(*faults)
            if reason:
                await_reason(job, reason)
            receiver.heal()
            job.await_batches(1, SINK)
    receiver.await_equality(CATCH_UP_SECONDS)


def test_a_job_whose_receiver_hangs_ends_when_told_to_and_a_receiver_that_dies_is_outlasted(
    world: World, job: Stream
) -> None:
    receiver = world.receiver
    receiver.fail({"delay_seconds": 60.0})
    with world.load():
        await_reason(job, "timeout")
        assert job.stop() == 0, job.tail()
        receiver.heal()
        job.start_and_wait()
        world.kill("receiver")
        await_reason(job, "connection failed")
        world.stack.up()
        job.await_batches(1, SINK)
    receiver.await_equality(CATCH_UP_SECONDS)
