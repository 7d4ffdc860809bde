"""The driver's side of the board: proving Redis, the fence of all shards, and rebuilding them."""

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import redis

from engagement.errors import PermanentSinkError
from engagement.sinks.redis import keys
from engagement.sinks.redis.client import RedisOptions
from engagement.sinks.redis.faults import SINK, ShardLostError, translated
from engagement.sinks.redis.hashes import is_wrong_type
from engagement.sinks.redis.scripts import run_many
from engagement.sinks.redis.shard import Shard, ShardState

OLDEST_REDIS = (6, 2)
FUTURE_SECONDS = 300
"""How far event time may be ahead of Kafka time (contract 9): rows of the window may be that much older in Kafka."""
MARGIN_SECONDS = 60
"""Clocks of Kafka and Redis may differ by that much."""


@dataclass(frozen=True)
class Rebuild:
    """Generations being built beside the current ones: partition -> (generation, the current one it replaces)."""

    shards: Mapping[int, tuple[str, str]]

    @property
    def generations(self) -> dict[int, str]:
        """What WritePlan.generations takes."""
        return {partition: generation for partition, (generation, _) in self.shards.items()}


class RedisBoard:
    """All shards of the board; opens nothing before `open`."""

    def __init__(self, client: redis.Redis, options: RedisOptions) -> None:
        self.client = client
        self.options = options
        self._known: set[int] = set()
        self._knowing = threading.Lock()

    def open(self) -> None:
        """Prove that Redis answers and is new enough. Raises: PermanentSinkError, TransientSinkError."""
        with translated():
            version = str(self.client.info("server")["redis_version"])
        if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS:
            raise PermanentSinkError(SINK, f"version {version} is too old: 6.2 or newer is needed")

    def partitions(self) -> list[int]:
        """Give the partitions that have or had a shard; this process remembers them when Redis was emptied."""
        with self._knowing, translated():
            try:
                stored = self.client.smembers(keys.shards())
            except redis.exceptions.ResponseError as error:
                if not is_wrong_type(error):
                    raise
                self.client.delete(keys.shards())
                stored = set()
            self._known |= {int(member) for member in stored}
            if len(stored) < len(self._known):
                self.client.sadd(keys.shards(), *self._known)
            return sorted(self._known)

    def retire(self, partitions: Collection[int]) -> None:
        """Delete the shards of partitions that the topic does not have any more. Raises: TransientSinkError.

        They are struck off the list last, so that a crash in between leaves nothing that nobody knows of.
        """
        with self._knowing:
            for partition in partitions:
                self.shard(partition).retire()
                with translated():
                    self.client.srem(keys.shards(), partition)
            self._known -= set(partitions)

    def states(self, partitions: Sequence[int], topic_id: str) -> dict[int, ShardState]:
        """Give the state of some shards, in one round trip.

        Raises: ShardLostError when one of them cannot be used and has to be rebuilt, TransientSinkError.
        """
        shards = [self.shard(partition) for partition in partitions]
        with translated():
            answers = run_many(self.client, [shard.state_call() for shard in shards])
        states = {shard.partition: shard.read_state(answer) for shard, answer in zip(shards, answers, strict=True)}
        for partition, state in states.items():
            if state.topic_id != topic_id:
                raise ShardLostError(partition, "topic")
            if state.window_seconds != self.options.window_seconds:
                raise ShardLostError(partition, "window_length")
        return states

    def shard(self, partition: int) -> Shard:
        """Give one shard."""
        return Shard(self.client, partition)

    def now_ms(self) -> int:
        """Give Redis's clock, milliseconds since 1970. Raises: TransientSinkError."""
        with translated():
            seconds, microseconds = self.client.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    def rebuild_from_ms(self) -> int:
        """Give the Kafka time from which a rebuild must read, so that no row of the window is missed."""
        return self.now_ms() - (self.options.window_seconds + FUTURE_SECONDS + MARGIN_SECONDS) * 1000

    def begin_rebuild(self, starts: Mapping[int, int], topic_id: str, now: float | None = None) -> Rebuild:
        """Begin an empty generation of each given shard at its first offset; readers see nothing of it yet.

        An unfinished rebuild of the same shards is dropped: the newest one wins, whoever began it.
        """
        with self._knowing:
            self._known |= set(starts)
        window = self.options.window_seconds
        return Rebuild({p: self.shard(p).new_generation(start, topic_id, window, now) for p, start in starts.items()})

    def finish_rebuild(self, rebuild: Rebuild) -> None:
        """Make the new generations current, shard by shard, and drop the old ones; call it under the sink's lock.

        A crash in between is harmless: each shard is whole by itself and has its own fence.
        Raises: OvertakenError when somebody else swapped a shard since `begin_rebuild`.
        """
        for partition, (generation, current) in rebuild.shards.items():
            self.shard(partition).swap(generation, current)
        self.partitions()
