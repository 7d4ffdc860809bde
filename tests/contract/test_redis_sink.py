"""The sink as the engine sees it, with its keeper's thread, over a real Redis: what it finds out by itself."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import redis
from tests.contract.redis_support import IDENTITY, WINDOW, Event, Origin, Row, id_changes, image
from tests.contract.redis_topic import SECONDS, Observer, Topic, catalogue, deliver, opened

from engagement.identity import OffsetRange
from engagement.sinks.redis import keys
from engagement.sinks.redis.client import RedisOptions
from engagement.sinks.redis.faults import FAR_BEHIND, WENT_BACK, FenceBehindError, ShardLostError
from engagement.sinks.redis.keeper import RECOUNT_DUE
from engagement.sinks.redis.lengths import LengthBook
from engagement.sinks.redis.publisher import Publisher
from engagement.sinks.redis.ranges import RangeWriter
from engagement.sinks.redis.reader import EngagementReader
from engagement.sinks.redis.shard import Shard
from engagement.sinks.redis.sink import RedisSink
from engagement.sinks.redis.writer import WritePlan
from engagement.transform.changes import Changes

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


@contextmanager
def running(client: redis.Redis, options: RedisOptions, topic: Topic) -> Iterator[tuple[RedisSink, Observer]]:
    """A sink whose keeper runs, over an empty shard for each of the topic's partitions."""
    begin_board(client, len(topic.logs))
    observer = Observer()
    with opened(options, topic, observer) as sink:
        yield sink, observer


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


def test_redis_that_went_back_in_time_is_counted_again_without_a_message(
    redis_client: redis.Redis, redis_options: RedisOptions
) -> None:
    topic = Topic({0: inserts(10)})
    with running(redis_client, redis_options, topic) as (sink, observer):
        sink.write_meta(catalogue("a"))
        sink.fence()
        deliver(sink, topic, (0, 0, 5))
        old = shard_copy(redis_client, 0)
        deliver(sink, topic, (0, 5, 10))
        redis_client.delete(keys.content_meta("a"))
        restore(redis_client, old)
        assert observer.await_rebuild() == f"shard 0: {WENT_BACK}"
        assert (sink.fence(), topic.adopted) == ({0: 10}, 1)
        assert redis_client.hget(keys.content_meta("a"), "title") == b"Title"


def test_redis_that_went_back_to_the_generation_before_a_recount_is_counted_again_though_the_gap_was_filled(
    redis_client: redis.Redis, redis_options: RedisOptions
) -> None:
    topic = Topic({0: inserts(5)})
    with running(redis_client, redis_options, topic) as (sink, observer):
        sink.fence()
        old = shard_copy(redis_client, 0)
        begin_board(redis_client, 1)
        sink.fence()
        restore(redis_client, old)
        deliver(sink, topic, (0, 0, 5))
        assert observer.await_rebuild() == f"shard 0: {WENT_BACK}"
        assert sink.fence() == {0: 5}


def test_a_contents_publication_time_reads_like_every_other_time(
    redis_client: redis.Redis, redis_options: RedisOptions
) -> None:
    with running(redis_client, redis_options, Topic({0: []})) as (sink, _):
        sink.write_meta(catalogue("a"))
    assert redis_client.hgetall(keys.content_meta("a")) == {
        b"slug": b"slug", b"title": b"Title", b"content_type": b"podcast", b"length_seconds": b"60",
        b"publish_ts": b"2026-11-23T14:59:58.000000Z",
    }  # fmt: skip


def test_recent_events_that_redis_lost_are_brought_back(redis_client: redis.Redis, redis_options: RedisOptions) -> None:
    topic = Topic({0: inserts(10)})
    with running(redis_client, redis_options, topic) as (sink, observer):
        deliver(sink, topic, (0, 0, 5))
        sink.fence()
        old = {**shard_copy(redis_client, 0), **copy(redis_client, keys.recent_events("a"))}
        deliver(sink, topic, (0, 5, 10))
        redis_client.restore(keys.recent_events("a"), 0, old.pop(keys.recent_events("a").encode()), replace=True)
        restore(redis_client, old)
        observer.await_rebuild()
    newest = EngagementReader(redis_client).get_recent_events("a")
    assert [int(event["event_id"] or 0) for event in newest] == list(range(10, 0, -1))


def test_shard_that_stands_before_what_a_rebuild_reads_is_counted_again_and_not_filled(
    redis_client: redis.Redis, redis_options: RedisOptions
) -> None:
    topic = Topic({0: inserts(10)}, first=500_000)
    with running(redis_client, redis_options, topic) as (sink, observer):
        with pytest.raises(ShardLostError, match=FAR_BEHIND):
            sink.fence()
        assert observer.await_rebuild() == f"shard 0: {FAR_BEHIND}"
        assert sink.fence() == {0: 500_010}


def test_a_partition_that_was_added_is_asked_for_from_its_first_micro_batch_on(
    redis_client: redis.Redis, redis_options: RedisOptions
) -> None:
    topic = Topic({0: inserts(5)})
    with running(redis_client, redis_options, topic) as (sink, observer):
        deliver(sink, topic, (0, 0, 5))
        topic.logs[1] = inserts(4, "b")
        with pytest.raises(ShardLostError, match="missing"):
            deliver(sink, topic, (1, 0, 4))
        observer.await_rebuild()
        deliver(sink, topic, (1, 0, 4))
        assert sink.fence() == {0: 5, 1: 4}


def test_a_sink_that_is_closed_lets_a_rebuild_under_way_write_what_lies_beside_the_board(
    redis_client: redis.Redis, redis_options: RedisOptions
) -> None:
    begin_board(redis_client, 1)
    observer, reading, go_on = Observer(), threading.Event(), threading.Event()

    class SlowTopic(Topic):
        def changes(self, ranges: Sequence[OffsetRange]) -> Changes:
            reading.set()
            assert go_on.wait(SECONDS)
            return super().changes(ranges)

    topic = SlowTopic({0: inserts(5)})
    sink = RedisSink(redis_options, topic, observer, "app")
    topic.on_adopt = lambda: sink.note_lengths({"a": 1000})
    sink.open()
    redis_client.delete(keys.current(0))
    assert reading.wait(SECONDS)
    closing = threading.Thread(target=sink.close)
    closing.start()
    closing.join(0.2)
    go_on.set()
    closing.join(SECONDS)
    assert redis_client.hget(keys.content_meta("a"), "title") == b"Title"
    assert LengthBook(redis_client).read() == {"a": 1000}


@pytest.mark.parametrize(("messages", "points"), [(1, [1.0]), (2, []), (3, [1.0]), (4, []), (5, [1.0])])
@pytest.mark.parametrize("first", [1, 2, 3, 4])
def test_event_whose_id_was_changed_counts_again_from_its_next_change_on(
    redis_client: redis.Redis, redis_options: RedisOptions, messages: int, points: list[float], first: int
) -> None:
    begin_board(redis_client, 1)
    topic, cut = Topic({0: id_changes(int(time.time() * 1_000_000))}), min(first, messages)
    with opened(redis_options, topic, Observer()) as sink:
        deliver(sink, topic, (0, 0, cut))
        if cut < messages:
            deliver(sink, topic, (0, cut, messages))
    Publisher(redis_client, redis_options).publish([0])
    assert [line.score for line in EngagementReader(redis_client).get_top_content()] == points


def shard_copy(client: redis.Redis, partition: int) -> dict[bytes, bytes]:
    """All keys of a shard."""
    return copy(client, f"engagement:{{p{partition}}}:*")


def copy(client: redis.Redis, pattern: str) -> dict[bytes, bytes]:
    return {key: client.dump(key) or b"" for key in client.scan_iter(pattern, count=1000)}


def restore(client: redis.Redis, old: dict[bytes, bytes]) -> None:
    """At once, as a failover does."""
    pipeline = client.pipeline(transaction=True)
    pipeline.delete(*client.scan_iter("engagement:{p0}:*", count=1000))
    for key, value in old.items():
        pipeline.restore(key, 0, value)
    pipeline.execute()


def test_length_of_a_content_whose_only_event_is_ahead_of_the_window_waits_for_a_recount(
    redis_client: redis.Redis, redis_options: RedisOptions
) -> None:
    begin_board(redis_client, 1)
    ahead = int((time.time() + 100) * 1_000_000)
    topic, observer = (
        Topic({0: [[image(Event(9, "ahead", event_us=ahead), Origin(lsn=99))], *inserts(1, "now")]}),
        Observer(),
    )
    with opened(redis_options, topic, observer) as sink:
        deliver(sink, topic, (0, 0, 2))
        assert sink.withheld(frozenset({"ahead", "now", "neither"})) == {"ahead", "now"}
        assert observer.await_rebuild() == "length of 2 content(s) changed"
