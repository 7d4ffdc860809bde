"""What can be wrong with a shard, as errors the driver acts on, and the translation of the client's own errors."""

from collections.abc import Iterator
from contextlib import contextmanager

import redis

from engagement.errors import TransientSinkError

SINK = "redis"
WENT_BACK = "went back in time"
FAR_BEHIND = "what it lacks begins before the window"


class FenceBehindError(TransientSinkError):
    """A shard that misses offsets before the ones offered (its newest seconds were lost): fill the gap first."""

    def __init__(self, partition: int, next_offset: int) -> None:
        self.partition = partition
        self.next_offset = next_offset
        super().__init__(SINK, f"shard {partition} has to be filled from offset {next_offset}")

    def __reduce__(self) -> tuple[type["FenceBehindError"], tuple[int, int]]:  # type: ignore[override]
        return type(self), (self.partition, self.next_offset)


class ShardLostError(TransientSinkError):
    """A shard that is gone or cannot be trusted: rebuild it.

    `why`: missing, wrongtype, clock_back, broken; topic, window_length; or one of those below.
    """

    def __init__(self, partition: int, why: str) -> None:
        self.partition = partition
        self.why = why
        super().__init__(SINK, f"shard {partition} has to be rebuilt: {why}")

    def __reduce__(self) -> tuple[type["ShardLostError"], tuple[int, str]]:  # type: ignore[override]
        return type(self), (self.partition, self.why)


class OvertakenError(TransientSinkError):
    """Another writer moved the shard on (or swapped its generation) since its state was read: read it again."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        super().__init__(SINK, f"another writer moved shard {partition} on")

    def __reduce__(self) -> tuple[type["OvertakenError"], tuple[int]]:  # type: ignore[override]
        return type(self), (self.partition,)


@contextmanager
def translated(partition: int | None = None) -> Iterator[None]:
    """Turn the client's errors into TransientSinkError; an error inside a shard's script into ShardLostError."""
    try:
        yield
    except redis.exceptions.OutOfMemoryError as error:
        raise TransientSinkError(SINK, "is out of memory (maxmemory)") from error
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as error:
        raise TransientSinkError(SINK, f"cannot be reached: {type(error).__name__}") from error
    except redis.exceptions.ResponseError as error:
        if "OOM " in str(error):
            raise TransientSinkError(SINK, "is out of memory (maxmemory)") from error
        # Data a script cannot read (not ours, or damaged); the text after it may quote the data.
        if partition is not None and "user_script" in str(error):
            raise ShardLostError(partition, "broken") from error
        raise TransientSinkError(SINK, f"refused: {str(error).split(' ', 1)[0]}") from error
