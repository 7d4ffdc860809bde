"""The sink as the engine sees it, with its keeper's thread, over a real Redis: what it finds out by itself."""

import time

import pytest
import redis
from tests.contract.redis_support import IDENTITY, WINDOW, Event, Origin, Row, image
from tests.contract.redis_topic import Observer, Topic, opened

from engagement.identity import OffsetRange
from engagement.sinks.redis import keys
from engagement.sinks.redis.client import RedisOptions
from engagement.sinks.redis.faults import FenceBehindError
from engagement.sinks.redis.keeper import RECOUNT_DUE
from engagement.sinks.redis.ranges import RangeWriter
from engagement.sinks.redis.shard import Shard
from engagement.sinks.redis.writer import WritePlan

pytestmark = pytest.mark.redis


def inserts(count: int, content_id: str = "a", op: str = "c") -> list[list[Row]]:
    """Messages of events that happen now: the sink counts by Redis's clock."""
    now = int(time.time() * 1_000_000)
    return [[image(Event(i + 1, content_id, event_us=now), Origin(op, lsn=100 + i))] for i in range(count)]


def begin_board(client: redis.Redis, partitions: int, next_offset: int = 0) -> None:
    """Empty shards by Redis's clock."""
    for partition in range(partitions):
        shard = Shard(client, partition)
        shard.swap(*shard.new_generation(next_offset, "topic", WINDOW))
    client.sadd(keys.shards(), *range(partitions))


def test_rows_left_out_by_a_job_that_died_are_counted_by_the_next_one(
    redis_client: redis.Redis, redis_options: RedisOptions
) -> None:
    begin_board(redis_client, 2)
    topic, observer = Topic({0: inserts(1, op="r"), 1: inserts(9, "b")}), Observer()
    ranges = [OffsetRange("events", 0, 0, 1), OffsetRange("events", 1, 5, 9)]
    with pytest.raises(FenceBehindError):  # as a second task may fail for any reason
        RangeWriter(redis_client, redis_options).write(topic.changes(ranges), ranges, WritePlan({}, IDENTITY))
    assert Shard(redis_client, 0).state().next_offset == 1
    with opened(redis_options, topic, observer):
        assert observer.await_rebuild() == RECOUNT_DUE
    assert not Shard(redis_client, 0).state().recount_due
    assert redis_client.hlen(keys.generation_key(0, Shard(redis_client, 0).state().generation, "totals")) == 1
