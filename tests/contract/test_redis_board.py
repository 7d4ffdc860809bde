"""The board against the oracle: random sources, random batches, overlaps, crashes and ticks, on real servers."""

from dataclasses import replace
from random import Random
from typing import Any

import pytest
import redis
from tests.contract.redis_support import (
    IDENTITY,
    START,
    WINDOW,
    Event,
    Origin,
    World,
    image,
    ranking,
    start_board,
    to_batch,
    write,
)

from engagement.sinks.redis import keys
from engagement.sinks.redis.client import RedisOptions
from engagement.sinks.redis.publisher import Publisher
from engagement.sinks.redis.reader import EngagementReader
from engagement.sinks.redis.recent import write_recent
from engagement.sinks.redis.shard import Shard
from engagement.sinks.redis.writer import WritePlan

pytestmark = pytest.mark.redis
SEEDS = range(12)


def deliver(client: redis.Redis, options: RedisOptions, world: World, *, everything: bool) -> None:
    """Offer each partition's new rows, overlapping what it has, cut anywhere, sometimes after a crash."""
    for partition in range(world.partitions):
        log, fence = world.logs[partition], Shard(client, partition).state().next_offset
        end = len(log) if everything else world.random.randint(fence, len(log))
        start = max(0, fence - world.random.choice([0, 0, 3, 20]))
        if world.random.random() < 0.2:  # died after the streams were written, before the fence moved
            crash_after_recent(client, partition, log[fence:end], fence)
        plan = WritePlan({}, IDENTITY, chunk_rows=world.random.randint(1, 40), now=world.now)
        summary = write(client, options, partition, log, span=(start, end), plan=plan)
        summary.raise_problem()
        assert summary.summary.read == end - start
        assert summary.summary.conservation_difference == 0


def crash_after_recent(client: redis.Redis, partition: int, rows: list[Any], start: int) -> None:
    written = [
        (at, group)
        for at, group in enumerate(rows, start)
        if group[0]["kind"] == "change" and group[0]["content_id"] is not None
    ]
    newest = {(group[0]["event_id"], group[0]["lsn"]) for _, group in written}
    if len(newest) == len(written):  # with repeats of the source among them the sink would have left those out
        write_recent(client, partition, to_batch([(at, group[:1]) for at, group in written], partition))


def check_board(client: redis.Redis, publisher: Publisher, world: World, size: int) -> None:
    publisher.publish(range(world.partitions), world.now)
    while publisher.publish_stats():
        pass
    expected, reader = world.board(world.now), EngagementReader(client)
    top = [(line.content_id, line.score) for line in reader.get_top_content(100)]
    assert top == ranking(expected, size)
    for number in range(world.contents):
        content = f"content-{number}"
        stats = reader.get_content_stats(content)
        if content not in expected:
            assert stats is None
            continue
        wanted = {name: value for name, value in expected[content].items() if name != "units"}
        assert {name: getattr(stats, name) for name in wanted} == wanted
    for partition in range(world.partitions):
        assert Shard(client, partition).recount(0, 10_000)[::2] == (0, 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_board_equals_the_oracle_whatever_the_batches(
    redis_client: redis.Redis, redis_options: RedisOptions, seed: int
) -> None:
    options = replace(redis_options, top_size=4 if seed % 2 else 100)
    world = World(Random(seed))
    publisher = Publisher(redis_client, options)
    start_board(redis_client, world.partitions, world.now)
    for _ in range(60):
        for _ in range(world.random.randint(0, 12)):
            world.step()
        deliver(redis_client, options, world, everything=False)
        if world.random.random() < 0.5:
            publisher.publish(range(world.partitions), world.now)
        if world.random.random() < 0.05:
            world.now += world.random.choice([60, 700, 7200])
        if world.random.random() < 0.2:
            deliver(redis_client, options, world, everything=True)
            check_board(redis_client, publisher, world, options.top_size)
    deliver(redis_client, options, world, everything=True)
    check_board(redis_client, publisher, world, options.top_size)


@pytest.mark.parametrize("seed", SEEDS)
def test_rebuilt_generation_equals_the_oracle(
    redis_client: redis.Redis, redis_options: RedisOptions, seed: int
) -> None:
    world = World(Random(seed))
    start_board(redis_client, world.partitions, world.now)
    publisher = Publisher(redis_client, redis_options)
    for _ in range(400):
        world.step()
    deliver(redis_client, redis_options, world, everything=True)
    check_board(redis_client, publisher, world, redis_options.top_size)
    for partition in range(world.partitions):
        shard, log = Shard(redis_client, partition), world.logs[partition]
        generation, current = shard.new_generation(0, "topic", 600, world.now)
        plan = WritePlan({}, IDENTITY, generations={partition: generation}, now=world.now, chunk_rows=50)
        third = len(log) // 3
        for span, rebuild in (((0, third), True), ((0, 2 * third), True), ((2 * third, len(log)), False)):
            summary = write(redis_client, redis_options, partition, log, span=span, plan=replace(plan, rebuild=rebuild))
            summary.raise_problem()
        shard.swap(generation, current)
        assert not redis_client.exists(keys.generation_key(partition, current, "totals"))
    check_board(redis_client, publisher, world, redis_options.top_size)


def test_recent_events_hold_each_version_once_newest_first(
    redis_client: redis.Redis, redis_options: RedisOptions
) -> None:
    world = World(Random(5), partitions=1)
    start_board(redis_client, 1, world.now)
    for _ in range(20):
        for _ in range(10):
            world.step()
        deliver(redis_client, redis_options, world, everything=False)
    deliver(redis_client, redis_options, world, everything=True)
    reader = EngagementReader(redis_client)
    for number in range(world.contents):
        content = f"content-{number}"
        found = [int(entry["event_id"] or 0) for entry in reader.get_recent_events(content, 1000)]
        assert found == world.recent[content][::-1]


def test_recent_events_are_the_newest_thousand_and_not_one_more(
    redis_client: redis.Redis, redis_options: RedisOptions
) -> None:
    start_board(redis_client, 1, START)
    log = [[image(Event(i + 1), Origin(lsn=100 + i))] for i in range(1_500)]
    for span in ((0, 613), (613, 1_111), (1_111, 1_500)):
        write(redis_client, redis_options, 0, log, span=span).raise_problem()
    assert redis_client.xlen(keys.recent_events("a")) == 1_000
    found = EngagementReader(redis_client).get_recent_events("a", 5_000)
    assert [int(entry["event_id"] or 0) for entry in found] == [*range(1_500, 500, -1)]


def test_a_row_that_was_refused_for_its_time_is_remembered_until_that_is_past(
    redis_client: redis.Redis, redis_options: RedisOptions
) -> None:
    start_board(redis_client, 1, START)
    ahead = Event(1, event_us=(START + 1_000) * 10**6)
    refused = image(ahead, Origin(kind="dead_letter", code="E_TS_FUTURE"), 0)
    write(redis_client, redis_options, 0, [[refused]], plan=WritePlan({}, IDENTITY, now=START)).raise_problem()
    shard = Shard(redis_client, 0)
    shard.tick(now=START + 1_000 + WINDOW - 11)
    assert shard.state().refused == 1
    shard.tick(now=START + 1_000 + WINDOW)
    assert shard.state().refused == 0
