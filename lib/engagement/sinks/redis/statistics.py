"""The contents' public statistics (`content_stats:{id}`), and which contents have any.

That list outlives the process: a content that leaves the window while no job runs is on no shard any more, so the next
job could not know that its hash is due for deletion.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import redis

from engagement.sinks.redis import keys
from engagement.sinks.redis.client import RedisOptions
from engagement.sinks.redis.faults import translated
from engagement.sinks.redis.hashes import is_wrong_type, write_hashes
from engagement.sinks.redis.shard import ContentState
from engagement.transform.instant import to_text


class StatsWriter:
    """Writes statistics. A crash between list and hash leaves a name too much, never too few."""

    def __init__(self, client: redis.Redis, options: RedisOptions) -> None:
        self._client = client
        self._options = options

    def shown(self) -> set[str]:
        """Contents that may have statistics. Raises: TransientSinkError."""
        listed = keys.contents_with_stats()
        with translated():
            try:
                found: set[Any] = self._client.smembers(listed)
            except redis.exceptions.ResponseError as error:
                if not is_wrong_type(error):
                    raise
                self._client.delete(listed)
                return set()
        return {member.decode() for member in found}

    def write(self, states: Mapping[str, ContentState], window_end: int) -> None:
        """Write these contents' statistics, none where no event is in the window. Raises: TransientSinkError."""
        start = window_end - self._options.window_seconds
        window = {"window_start": _iso(start), "window_end": _iso(window_end)}
        fields = {c: {**stats_fields(s), **window} if s.totals.events > 0 else {} for c, s in states.items()}
        there = [content for content, values in fields.items() if values]
        gone = [content for content, values in fields.items() if not values]
        listed, ttl = keys.contents_with_stats(), self._options.stats_ttl_seconds
        with translated():
            if there:
                self._client.sadd(listed, *there)
                self._client.expire(listed, ttl)
            write_hashes(self._client, {keys.content_stats(c): values for c, values in fields.items()}, ttl)
            if gone:
                self._client.srem(listed, *gone)


def stats_fields(state: ContentState) -> dict[str, str]:
    """Give a content's public statistics without the window; an average or time that does not exist is ''."""
    totals = state.totals
    average = totals.avg_engagement_pct
    return {
        **{name: str(getattr(totals, name)) for name in ("events", "play", "pause", "finish", "click")},
        "engagement_seconds": str(totals.engagement_seconds),
        "avg_engagement_pct": "" if average is None else str(average),
        "unique_users": str(state.unique_users),
        "score": repr(totals.score),
        "last_event_ts": "" if state.last_event_us is None else to_text(state.last_event_us),
    }


def _iso(epoch_seconds: int) -> str:
    return datetime.fromtimestamp(epoch_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
