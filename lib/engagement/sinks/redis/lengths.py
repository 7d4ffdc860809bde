"""The lengths that the board was counted with, kept beside it: a length may change while no job runs."""

from typing import Any

import redis

from engagement.sinks.redis import keys
from engagement.sinks.redis.faults import translated
from engagement.sinks.redis.hashes import is_wrong_type
from engagement.transform.content import Lengths

_FIELDS = 1000


class LengthBook:
    """Reads and keeps them; every method raises TransientSinkError.

    Empty after a first start, or when Redis was emptied: all contents then count as changed, and the board again.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def read(self) -> Lengths:
        """Give what was kept last."""
        with translated():
            try:
                stored: dict[Any, Any] = self._client.hgetall(keys.counted_lengths())
            except redis.exceptions.ResponseError as error:
                if not is_wrong_type(error):
                    raise
                self._client.delete(keys.counted_lengths())
                stored = {}
        return {content.decode(): int(length) if length else None for content, length in stored.items()}

    def write(self, lengths: Lengths) -> None:
        """Keep these and nothing else; a crash on the way leaves some as they were, which is counted again for."""
        former = self.read()
        gone = [content for content in former if content not in lengths]
        new = [(c, "" if n is None else n) for c, n in lengths.items() if c not in former or former[c] != n]
        pipeline = self._client.pipeline(transaction=False)
        for start in range(0, len(new), _FIELDS):
            pipeline.hset(keys.counted_lengths(), mapping=dict(new[start : start + _FIELDS]))
        for start in range(0, len(gone), _FIELDS):
            pipeline.hdel(keys.counted_lengths(), *gone[start : start + _FIELDS])
        with translated():
            pipeline.execute()
