"""What the board is made of, for whoever wants to count again: totals per content over a piece of the window."""

from collections.abc import Mapping
from dataclasses import dataclass

from engagement.sinks.redis import keys
from engagement.sinks.redis.board import RedisBoard
from engagement.sinks.redis.faults import translated
from engagement.sinks.redis.totals import NOTHING, Totals, unpack_totals

NUMBERS = ("units", "events", "play", "pause", "finish", "click", "duration_ms")
"""Those of Totals that are held against PostgreSQL's."""


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
    totals: dict[str, Totals] = {}
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
                totals[content.decode()] = totals.get(content.decode(), NOTHING) + unpack_totals(packed)
    named = {content: {name: getattr(sums, name) for name in NUMBERS} for content, sums in totals.items()}
    return {content: numbers for content, numbers in named.items() if any(numbers.values())}
