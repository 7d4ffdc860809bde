"""Whatever happens to a service under the running job: it heals by itself and the board equals the reference."""

import os
import time

import pytest
from tests.e2e.support.processes import PATIENCE, await_that
from tests.e2e.support.world import StreamJob, World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300 * PATIENCE)]

CATCH_UP_SECONDS = 60
LOST_SECONDS = 3.0


def test_an_emptied_redis_is_counted_again_from_kafka(world: World, job: StreamJob) -> None:
    with world.watch():
        with world.load():
            job.await_batches(2)
            world.redis.flushall()
            job.await_batches(2)
        world.oracle.await_equality(CATCH_UP_SECONDS, least_events=300)
    assert job.is_alive
    top = world.redis.zrevrange("top_content_last_10min", 0, 0)
    assert world.redis.exists(f"content_meta:{top[0]}")


def test_a_killed_redis_comes_back_with_everything(world: World, job: StreamJob) -> None:
    with world.watch():
        with world.load():
            job.await_batches(2)
            world.kill("redis")
            time.sleep(1)
            assert world.stack.heal() == ["redis"]
            job.await_batches(2)
        world.oracle.await_equality(CATCH_UP_SECONDS, least_events=300)
    assert job.is_alive


def test_a_redis_that_lost_its_newest_seconds_gets_them_again(world: World, job: StreamJob) -> None:
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


@pytest.mark.parametrize("service", ["postgres", "connect", "kafka"])
def test_a_killed_source_service_costs_no_row(world: World, job: StreamJob, service: str) -> None:
    with world.watch():
        with world.load() as load:
            job.await_batches(2)
            world.kill(service)
            time.sleep(1)
            world.stack.up()
            committed = load.committed
            await_that(lambda: load.committed > committed, 30, "the workload does not come back")
            job.await_batches(2)
        world.oracle.await_equality(CATCH_UP_SECONDS, least_events=300)
    assert job.is_alive


def test_everything_may_be_down_at_once(world: World, job: StreamJob) -> None:
    with world.watch():
        with world.load():
            job.await_batches(2)
            for service in ("kafka", "redis", "postgres", "connect"):
                world.kill(service)
            world.stack.up()
            job.await_batches(2)
        world.oracle.await_equality(CATCH_UP_SECONDS, least_events=300)
    assert job.is_alive
