"""What Redis says of a running demo. One that is away says nothing, and ends nothing: it is brought back."""

from collections.abc import Mapping

from redis import Redis
from redis.exceptions import RedisError

from engagement.errors import TransientSinkError
from engagement.monitoring.status import QueryState, QueryStatus, read_book
from engagement.sinks.redis.reader import EngagementReader

_RANKING = "redis"
_SHOWN = 10


class RedisView:
    """The ranking, and what the streaming job's queries say of themselves."""

    def __init__(self, client: Redis, top_key: str) -> None:
        self._client = client
        self._reader = EngagementReader(client, top_key)

    def top(self) -> list[tuple[str, float]] | None:
        """The first contents by title with their scores; None while Redis is away."""
        try:
            return [(line.title or line.content_id, line.score) for line in self._reader.get_top_content(_SHOWN)]
        except (RedisError, TransientSinkError):
            return None

    def status(self, sink: str = _RANKING) -> QueryStatus | None:
        """The query that writes to a sink; None while it says nothing, or Redis is away."""
        return self._queries().get(sink)

    def all_run(self) -> bool:
        """Whether every query that says something runs; False while Redis is away."""
        queries = self._queries().values()
        return bool(queries) and all(query.state is QueryState.RUNNING for query in queries)

    def _queries(self) -> Mapping[str, QueryStatus]:
        """By sink; none while Redis is away."""
        try:
            return read_book(self._client).queries
        except RedisError:
            return {}


def delivered_per_second(before: QueryStatus | None, after: QueryStatus | None, seconds: float) -> float | None:
    """Messages delivered per second between two looks; None unless both saw one process: its totals begin at 0."""
    if before is None or after is None or before.started_at != after.started_at:
        return None
    return round((after.rows.delivered - before.rows.delivered) / seconds, 1)
