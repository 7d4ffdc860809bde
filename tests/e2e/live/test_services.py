"""Whatever happens to a service under the running job: it heals by itself and every sink ends as it should."""

import os
import time

import pytest
from tests.e2e.support.processes import PATIENCE, await_that
from tests.e2e.support.streams import Stream
from tests.e2e.support.world import CATCH_UP_SECONDS, World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300 * PATIENCE)]

ALL_SERVICES = ["bigquery", "receiver", "kafka", "redis", "postgres", "connect"]
LOST_SECONDS = 3.0


def test_an_emptied_redis_is_counted_again_from_kafka(world: World, job: Stream) -> None:
    with world.watch():
        with world.load():
            job.await_batches(2)
            world.redis.flushall()
            job.await_batches(2)
        world.oracle.await_equality(CATCH_UP_SECONDS, least_events=300)
    assert job.is_alive
    top = world.redis.zrevrange("top_content_last_10min", 0, 0)
    assert world.redis.exists(f"content_meta:{top[0]}")


def test_a_killed_redis_comes_back_with_everything(world: World, job: Stream) -> None:
    with world.watch():
        with world.load():
            job.await_batches(2)
            world.kill("redis")
            time.sleep(1)
            assert world.stack.heal() == ["redis"]
            job.await_batches(2)
        world.oracle.await_equality(CATCH_UP_SECONDS, least_events=300)
    assert job.is_alive


def test_a_redis_that_lost_its_newest_seconds_gets_them_again(world: World, job: Stream) -> None:
    log = world.home / "redis" / "appendonly.aof"
    with world.watch():
        with world.load():
            job.await_batches(3)
            kept = log.stat().st_size
            time.sleep(LOST_SECONDS)
            await_that(lambda: log.stat().st_size > kept, 10, "Redis writes nothing")
            world.kill("redis")
            os.truncate(log, kept)
            world.stack.up()
            job.await_batches(2)
        world.oracle.await_equality(CATCH_UP_SECONDS, least_events=300)
    assert job.is_alive


def test_killed_services_cost_no_row(world: World, job: Stream) -> None:
    """Each that rows come through, then all at once."""
    with world.watch():
        for services in (["postgres"], ["connect"], ["kafka"], ALL_SERVICES):
            with world.load() as load:
                job.await_batches_of_all(1)
                for service in services:
                    world.kill(service)
                time.sleep(1)
                world.stack.up()
                committed = load.committed
                await_that(lambda c=committed, w=load: w.committed > c, 30, "the workload does not come back")
                job.await_batches(2)
            world.oracle.await_equality(CATCH_UP_SECONDS, least_events=300)
        world.await_equality()
    assert job.is_alive
