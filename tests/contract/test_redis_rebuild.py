"""Counting the board again from a topic, over a real Redis."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import pytest
import redis
from tests.contract.redis_support import IDENTITY, Event, Origin, Row, id_changes, image, write
from tests.contract.redis_topic import Topic

from engagement.sinks.redis import keys
from engagement.sinks.redis.board import RedisBoard
from engagement.sinks.redis.client import RedisOptions
from engagement.sinks.redis.faults import ShardLostError
from engagement.sinks.redis.publisher import Publisher
from engagement.sinks.redis.ranges import RangeWriter
from engagement.sinks.redis.reader import EngagementReader
from engagement.sinks.redis.rebuild import BoardRebuild
from engagement.sinks.redis.writer import WritePlan

pytestmark = pytest.mark.redis


def inserts(count: int, content_id: str) -> list[list[Row]]:
    now = int(time.time() * 1_000_000)
    return [[image(Event(i + 1, content_id, event_us=now), Origin(lsn=100 + i))] for i in range(count)]


@pytest.fixture
def board(redis_client: redis.Redis, redis_options: RedisOptions) -> RedisBoard:
    return RedisBoard(redis_client, redis_options)


def rebuild(board: RedisBoard, topic: Topic) -> None:
    writer = RangeWriter(board.client, board.options)
    BoardRebuild(board, writer, topic, nullcontext, "app").run("test")


def shown(board: RedisBoard, publisher: Publisher, partitions: Sequence[int]) -> list[tuple[str, float]]:
    assert board.partitions() == list(partitions)
    publisher.publish(board.partitions())
    return [(line.content_id, line.score) for line in EngagementReader(board.client).get_top_content()]


def test_shards_of_partitions_that_the_topic_has_no_more_are_deleted(board: RedisBoard) -> None:
    publisher = Publisher(board.client, board.options)
    topic = Topic({0: inserts(1, "a"), 1: inserts(2, "b"), 2: inserts(3, "c")})
    rebuild(board, topic)
    assert shown(board, publisher, range(3)) == [("c", 3.0), ("b", 2.0), ("a", 1.0)]
    smaller = replace(topic, topic_id="made again", logs={0: inserts(4, "c"), 1: inserts(1, "a")})
    rebuild(board, smaller)
    assert shown(board, publisher, range(2)) == [("c", 4.0), ("a", 1.0)]
    left = list(board.client.scan_iter("engagement:{p2}:*", count=1000))
    assert all(b":users:" in key for key in left), "those expire by themselves"
    assert RedisBoard(board.client, board.options).partitions() == [0, 1]
    board.client.flushall()
    with pytest.raises(ShardLostError, match="missing"):
        publisher.publish(board.partitions())
    rebuild(board, smaller)
    assert shown(board, publisher, range(2)) == [("c", 4.0), ("a", 1.0)]


@pytest.mark.parametrize(("messages", "points"), [(1, [1.0]), (2, []), (3, [1.0]), (4, []), (5, [1.0])])
def test_event_whose_id_was_changed_counts_again_from_its_next_change_on(
    board: RedisBoard, messages: int, points: list[float]
) -> None:
    log, publisher = id_changes(int(time.time() * 1_000_000)), Publisher(board.client, board.options)
    for _ in range(2):
        rebuild(board, Topic({0: log[:messages]}))
        assert [score for _, score in shown(board, publisher, [0])] == points


def test_emptied_redis_forgets_a_partition_that_the_topic_has_no_more(board: RedisBoard) -> None:
    topic = Topic({0: inserts(1, "a"), 1: inserts(2, "b")})
    rebuild(board, topic)
    board.client.flushall()
    rebuild(board, Topic({0: inserts(1, "a")}))
    assert shown(board, Publisher(board.client, board.options), [0]) == [("a", 1.0)]


def test_rebuild_of_some_shards_leaves_the_others(board: RedisBoard) -> None:
    rebuild(board, Topic({0: inserts(1, "a"), 1: inserts(2, "b")}))
    board.finish_rebuild(board.begin_rebuild({0: 0}, "topic"))
    assert shown(board, Publisher(board.client, board.options), [0, 1]) == [("b", 2.0)]
    assert board.client.exists(keys.current(1))


def test_offsets_of_a_topic_that_was_made_again_are_not_asked_for(board: RedisBoard) -> None:
    rebuild(board, Topic({0: inserts(9, "a")}, first=500_000))
    rebuild(board, Topic({0: inserts(2, "a")}, topic_id="made again"))
    assert board.states([0], "made again")[0].next_offset == 2


def test_recent_events_go_on_after_the_topic_was_made_again(board: RedisBoard) -> None:
    rebuild(board, Topic({0: inserts(10, "a")}, first=500_000))
    log = inserts(3, "a")
    rebuild(board, Topic({0: log[:2]}, topic_id="made again"))
    assert recent(board, "a") == [2, 1]
    rebuild(board, Topic({0: log[:2]}, topic_id="made again"))
    assert recent(board, "a") == [2, 1]
    write(board.client, board.options, 0, log, span=(2, 3), plan=WritePlan({}, IDENTITY)).raise_problem()
    assert recent(board, "a") == [3, 2, 1]


def test_recent_events_are_whole_after_the_recount_of_another_topic_broke_off_between_two_shards(
    board: RedisBoard,
) -> None:
    rebuild(board, Topic({0: inserts(9, "a"), 1: inserts(9, "b")}, first=500_000))
    again = Topic({0: inserts(2, "a"), 1: inserts(3, "b")}, topic_id="made again", contents=("a", "b"))
    rebuild(board, again)
    former = board.begin_rebuild({1: 0}, "topic")  # as if only shard 0 had been swapped
    board.finish_rebuild(former)
    rebuild(board, again)
    assert (recent(board, "a"), recent(board, "b")) == ([2, 1], [3, 2, 1])


def recent(board: RedisBoard, content: str) -> list[int]:
    return [int(event["event_id"] or 0) for event in EngagementReader(board.client).get_recent_events(content)]
