"""The lengths that the board was counted with, in a real Redis."""

import pytest
import redis

from engagement.sinks.redis import keys
from engagement.sinks.redis.lengths import LengthBook

pytestmark = pytest.mark.redis


def test_an_empty_redis_knows_no_length(redis_client: redis.Redis) -> None:
    assert LengthBook(redis_client).read() == {}


def test_what_was_kept_last_is_read_and_nothing_else(redis_client: redis.Redis) -> None:
    book = LengthBook(redis_client)
    many = {f"content-{n}": n for n in range(2_500)}
    book.write({**many, "newsletter": None, "gone": 5})
    assert book.read() == {**many, "newsletter": None, "gone": 5}
    changed = {**many, "newsletter": 30, "content-7": None}
    book.write(changed)
    assert book.read() == changed
    book.write({})
    assert book.read() == {}


def test_a_key_that_somebody_made_another_type_is_as_good_as_none(redis_client: redis.Redis) -> None:
    redis_client.set(keys.counted_lengths(), "mine")
    book = LengthBook(redis_client)
    book.write({"a": 60})
    assert book.read() == {"a": 60}
