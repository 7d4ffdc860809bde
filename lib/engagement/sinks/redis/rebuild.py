"""Counting the board again from Kafka, beside the running one, and swapping it in.

Phase 1, nothing held up: a new generation of every shard is filled from "now - window - skew - margin" up to X, the
topic's end at that moment. Phase 2, between two micro-batches: the new generation takes [X, the running fence), so
that both stand at the same offset, and becomes the current one.

A crash in either phase leaves the old pointers; the next rebuild drops what was begun. A crash between the swaps of two
shards leaves each of them whole, by itself, at its own fence.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Protocol

import pyarrow as pa
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from engagement.errors import TransientSinkError
from engagement.identity import BatchIdentity, OffsetRange
from engagement.sinks.redis.board import RedisBoard
from engagement.sinks.redis.faults import SINK, ShardLostError
from engagement.sinks.redis.ranges import RangeWriter
from engagement.sinks.redis.recent import forget_recent
from engagement.sinks.redis.shard import ShardState
from engagement.sinks.redis.writer import WritePlan
from engagement.transform.changes import Changes

_NO_BATCH = -1


@dataclass(frozen=True)
class Recount:
    """One consistent catalogue to count with."""

    read: Callable[[Sequence[OffsetRange]], Changes]
    """Ranges of the topic as changes, scored with this catalogue."""
    adopt: Callable[[], None]
    """Score the micro-batches that follow with it too."""
    contents: pa.Table
    """That catalogue (contract CONTENT)."""


class History(Protocol):
    """Topic and contents as a rebuild needs them; the composition gives it, since sinks know no sources.

    Every method raises TransientError when its service does not answer.
    """

    def topic(self) -> tuple[str, str]:
        """The topic's name and id."""
        ...

    def partitions(self) -> Sequence[int]:
        """Partitions of the topic."""
        ...

    def offsets_at(self, epoch_ms: int) -> Mapping[int, int]:
        """Partition -> first offset at or after a broker time."""
        ...

    def ends(self) -> Mapping[int, int]:
        """Partition -> end offset now."""
        ...

    def recounted(self) -> Recount:
        """The catalogue as last read."""
        ...


@dataclass(frozen=True)
class BoardRebuild:
    """Builds and swaps in new generations of all shards."""

    board: RedisBoard
    writer: RangeWriter
    history: History
    between_batches: Callable[[], AbstractContextManager[object]]
    """Holds off micro-batches while it is entered."""
    app_id: str

    def run(self, reason: str) -> None:
        """Count everything again. Raises: TransientSinkError, TransientError."""
        try:
            self._run(BatchIdentity(self.app_id, f"rebuild: {reason}", _NO_BATCH))
        except (PySparkException, Py4JError) as error:
            raise TransientSinkError(SINK, f"the rebuild could not read Kafka: {type(error).__name__}") from error

    def _run(self, identity: BatchIdentity) -> None:
        recount = self.history.recounted()
        topic, topic_id = self.history.topic()
        ends = dict(sorted(self.history.ends().items()))
        found = self.history.offsets_at(self.board.rebuild_from_ms())
        starts = {partition: min(found.get(partition, end), end) for partition, end in ends.items()}
        begun = self.board.begin_rebuild(starts, topic_id)
        # Streams of recent events live outside the generations: they have what the running ones were given. An entry's
        # number is an offset: after those of another topic, this one's would be taken for old.
        lacking = {p: self._running_fence(p, topic_id, 0) for p in ends}
        if self._counts_another(topic_id):
            forget_recent(self.board.client, recount.contents["content_id"].to_pylist())
            lacking = dict.fromkeys(ends, 0)  # of all: where the last try broke off, some count this topic already
        plan = WritePlan(
            {}, identity, topic_id, final=True, rebuild=True, generations=begun.generations, recent_from=lacking
        )
        self._fill(recount, [OffsetRange(topic, p, starts[p], end) for p, end in ends.items()], plan)
        with self.between_batches():
            fences = {p: self._running_fence(p, topic_id, end) for p, end in ends.items()}
            since = [OffsetRange(topic, p, end, fences[p]) for p, end in ends.items()]
            self._fill(recount, since, replace(plan, rebuild=False, recent_from=fences))
            # Before the swaps: until those are made, the next start counts again, and comes by here.
            self.board.retire(set(self.board.partitions()) - set(ends))
            self.board.finish_rebuild(begun)
            recount.adopt()

    def _fill(self, recount: Recount, ranges: Sequence[OffsetRange], plan: WritePlan) -> None:
        due = [part for part in ranges if not part.is_empty]
        if due:
            self.writer.write(recount.read(due), due, plan)

    def _running_fence(self, partition: int, topic_id: str, least: int) -> int:
        """Where micro-batches have got to; with a lost shard, or one of another topic, there is nothing to catch up."""
        state = self._running(partition)
        return max(least, state.next_offset) if state and state.topic_id == topic_id else least

    def _counts_another(self, topic_id: str) -> bool:
        """Whether a running shard counts another topic."""
        running = [self._running(partition) for partition in self.board.partitions()]
        return any(state is not None and state.topic_id != topic_id for state in running)

    def _running(self, partition: int) -> ShardState | None:
        try:
            return self.board.shard(partition).state()
        except ShardLostError:
            return None
