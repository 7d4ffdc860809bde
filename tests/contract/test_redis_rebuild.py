"""Counting the board again from a topic, over a real Redis."""

import time
from contextlib import nullcontext

import pytest
import redis
from tests.contract.redis_support import Event, Origin, Row, image
from tests.contract.redis_topic import Topic

from engagement.sinks.redis.board import RedisBoard
from engagement.sinks.redis.client import RedisOptions
from engagement.sinks.redis.ranges import RangeWriter
from engagement.sinks.redis.rebuild import BoardRebuild

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


def test_offsets_of_a_topic_that_was_made_again_are_not_asked_for(board: RedisBoard) -> None:
    rebuild(board, Topic({0: inserts(9, "a")}, first=500_000))
    rebuild(board, Topic({0: inserts(2, "a")}, topic_id="made again"))
    assert board.states([0], "made again")[0].next_offset == 2
