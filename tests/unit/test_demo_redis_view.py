"""What a demo reads from Redis to show it, also while Redis is away."""

from typing import Any

from redis.exceptions import ConnectionError as RedisAwayError

from engagement.demo.redis_view import RedisView
from engagement.monitoring.board import StatusBoard


class AwayRedis:
    """Answers nothing that it is asked."""

    def __getattr__(self, name: str) -> object:
        def call(*_: object, **__: object) -> object:
            raise RedisAwayError(name)

        return call


class StatusRedis:
    """Holds the status of queries."""

    def __init__(self, *boards: StatusBoard) -> None:
        self.fields = {board.sink: board.snapshot().model_dump_json() for board in boards}

    def hgetall(self, _key: str) -> dict[str, str]:
        return self.fields


def test_a_redis_that_is_away_shows_nothing_and_ends_nothing() -> None:
    client: Any = AwayRedis()
    view = RedisView(client, "top")
    assert (view.top(), view.status(), view.status("external")) == (None, None, None)


def test_each_query_says_its_own_and_one_that_has_not_begun_says_nothing() -> None:
    client: Any = StatusRedis(StatusBoard("redis"), StatusBoard("external"))
    view = RedisView(client, "top")
    assert [status.sink for status in (view.status(), view.status("external")) if status] == ["redis", "external"]
    assert view.status("lake") is None
