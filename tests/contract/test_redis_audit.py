"""What the buckets hold, summed for whoever compares it: against the oracle, on real servers."""

from random import Random

import pytest
import redis
from tests.contract.redis_support import IDENTITY, WINDOW, World, start_board, write

from engagement.sinks.redis import keys
from engagement.sinks.redis.audit import NUMBERS, counted, window_of
from engagement.sinks.redis.board import RedisBoard
from engagement.sinks.redis.client import RedisOptions
from engagement.sinks.redis.writer import WritePlan

pytestmark = pytest.mark.redis


@pytest.mark.parametrize("seed", range(3))
def test_the_buckets_of_the_window_add_up_to_the_live_rows(
    redis_client: redis.Redis, redis_options: RedisOptions, seed: int
) -> None:
    world = World(Random(seed))
    start_board(redis_client, world.partitions, world.now)
    redis_client.sadd(keys.shards(), *range(world.partitions))
    for _ in range(300):
        world.step()
    for partition in range(world.partitions):
        log = world.logs[partition]
        plan = WritePlan({}, IDENTITY, now=world.now)
        write(redis_client, redis_options, partition, log, span=(0, len(log)), plan=plan).raise_problem()
    end = (int(world.now) // 10 + 1) * 10
    found = counted(RedisBoard(redis_client, redis_options), end - WINDOW, end)
    expected = world.board(world.now)
    assert found.keys() == expected.keys()
    for content, numbers in found.items():
        wanted = expected[content]
        names = [name for name in NUMBERS if name in wanted]
        assert {name: numbers[name] for name in names} == {name: wanted[name] for name in names}
        assert numbers["duration_ms"] == wanted["engagement_seconds"] * 1000
    assert len(found) > 1


def test_the_window_is_that_of_the_servers_clock(redis_client: redis.Redis, redis_options: RedisOptions) -> None:
    board = RedisBoard(redis_client, redis_options)
    before, window, after = board.now_ms() // 1000, window_of(board), board.now_ms() // 1000
    assert before < window.end <= after + 10
    assert window.end - window.first == redis_options.window_seconds
    assert window.end % 10 == 0
