"""What the board is made of, for whoever wants to count again: totals per content over a piece of the window."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgpack

from engagement.sinks.redis import keys
from engagement.sinks.redis.board import RedisBoard
from engagement.sinks.redis.faults import translated

NUMBERS = ("units", "events", "play", "pause", "finish", "click", "duration_ms")
"""The first numbers of a bucket's entry (lua/prelude.lua)."""


@dataclass(frozen=True)
class BoardWindow:
    """The live window, seconds since 1970: first inclusive, end exclusive."""

    first: int
    end: int


def window_of(board: RedisBoard) -> BoardWindow:
    """The window by Redis's clock. Raises: TransientSinkError."""
    seconds = board.now_ms() // 1000
    end = (seconds // keys.STEP_SECONDS + 1) * keys.STEP_SECONDS
    return BoardWindow(end - board.options.window_seconds, end)


def counted(board: RedisBoard, first: int, end: int) -> Mapping[str, Mapping[str, int]]:
    """content_id -> NUMBERS over the buckets of event times `first` to `end`, full steps, all shards together.

    Raises: TransientSinkError, ShardLostError when a shard cannot be read.
    """
    totals: dict[str, dict[str, int]] = {}
    for partition in board.partitions():
        generation = board.shard(partition).state().generation
        buckets = range(first // keys.STEP_SECONDS, end // keys.STEP_SECONDS)
        with translated(partition):
            pipeline = board.client.pipeline(transaction=False)
            for bucket in buckets:
                pipeline.hgetall(keys.generation_key(partition, generation, f"bucket:{bucket}"))
            answers = pipeline.execute()
        for answer in answers:
            for content, packed in answer.items():
                _add(totals.setdefault(content.decode(), dict.fromkeys(NUMBERS, 0)), msgpack.unpackb(packed))
    return {content: numbers for content, numbers in totals.items() if any(numbers.values())}


def _add(totals: dict[str, int], entry: list[int]) -> None:
    for name, value in zip(NUMBERS, entry, strict=False):
        totals[name] += int(value)
