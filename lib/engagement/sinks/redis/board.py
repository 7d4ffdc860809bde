"""The driver's side of the board: proving Redis, the fence of all shards, and rebuilding them."""

from collections.abc import Mapping
from dataclasses import dataclass

import redis

from engagement.errors import PermanentSinkError
from engagement.sinks.redis import keys
from engagement.sinks.redis.client import RedisOptions
from engagement.sinks.redis.faults import SINK, ShardLostError, translated
from engagement.sinks.redis.shard import Shard
from engagement.sinks.redis.summary import TaskSummary
from engagement.sinks.redis.writer import Task, WritePlan, make_task, write_empty

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

    def open(self) -> None:
        """Prove that Redis answers and is new enough. Raises: PermanentSinkError, TransientSinkError."""
        with translated():
            version = str(self.client.info("server")["redis_version"])
        if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS:
            raise PermanentSinkError(SINK, f"version {version} is too old: 6.2 or newer is needed")

    def partitions(self) -> list[int]:
        """Give the partitions that have or had a shard; this process remembers them when Redis was emptied."""
        with translated():
            try:
                stored = self.client.smembers(keys.shards())
            except redis.exceptions.ResponseError as error:
                if not str(error).startswith("WRONGTYPE"):
                    raise
                self.client.delete(keys.shards())
                stored = set()
            self._known |= {int(member) for member in stored}
            if len(stored) < len(self._known):
                self.client.sadd(keys.shards(), *self._known)
        return sorted(self._known)

    def fence(self) -> dict[int, int]:
        """Give the next offset of every usable shard; see `lost` for the others. Raises: TransientSinkError."""
        fence = {}
        for partition in self.partitions():
            try:
                fence[partition] = self.shard(partition).state().next_offset
            except ShardLostError:
                continue
        return fence

    def lost(self, topic_id: str = "") -> dict[int, str]:
        """Give the shards that have to be rebuilt and why. Raises: TransientSinkError."""
        reasons = {}
        for partition in self.partitions():
            try:
                state = self.shard(partition).state()
            except ShardLostError as error:
                reasons[partition] = error.why
                continue
            if state.window_seconds != self.options.window_seconds:
                reasons[partition] = "window_length"
            elif topic_id and state.topic_id and state.topic_id != topic_id:
                reasons[partition] = "topic"
        return reasons

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

    def make_task(self, plan: WritePlan) -> Task:
        """Give the function for mapInArrow."""
        return make_task(plan, self.options)

    def write_empty(self, plan: WritePlan, partition: int) -> TaskSummary:
        """Move a partition's fence over a range that held no rows."""
        return write_empty(self.client, self.options, plan, partition)

    def begin_rebuild(self, starts: Mapping[int, int], topic_id: str, now: float | None = None) -> Rebuild:
        """Begin an empty generation of each given shard at its first offset; readers see nothing of it yet.

        An unfinished rebuild of the same shards is dropped: the newest one wins, whoever began it.
        """
        self._known |= set(starts)
        window = self.options.window_seconds
        return Rebuild({p: self.shard(p).new_generation(start, topic_id, window, now) for p, start in starts.items()})

    def rebuilt(self, rebuild: Rebuild) -> dict[int, int]:
        """Give the next offset of each generation being built. Raises: ShardLostError when another rebuild won."""
        return {p: self.shard(p).state(generation).next_offset for p, generation in rebuild.generations.items()}

    def finish_rebuild(self, rebuild: Rebuild) -> None:
        """Make the new generations current, shard by shard, and drop the old ones; call it under the sink's lock.

        A crash in between is harmless: each shard is whole by itself and has its own fence.
        Raises: OvertakenError when somebody else swapped a shard since `begin_rebuild`.
        """
        for partition, (generation, current) in rebuild.shards.items():
            self.shard(partition).swap(generation, current)
        self.partitions()

    def abandon_rebuild(self, rebuild: Rebuild) -> None:
        """Drop generations that will not be finished."""
        for partition, (generation, _) in rebuild.shards.items():
            self.shard(partition).drop(generation)
