"""The Redis sink as the delivery engine sees it: fences of the shards, micro-batches into them, and the keeper beside.

Guarantee: effectively once per row version on the board and in the totals, by the fence that every shard moves in the
same script call as its numbers (crash points: writer.py, rebuild.py). Time bound: what a micro-batch brought is in the
public ranking after the keeper's next publish, at most 100 ms later while Redis answers.
"""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace

import pyarrow as pa

from engagement.errors import TransientSinkError
from engagement.identity import BatchIdentity, Fence, OffsetRange
from engagement.sinks.base import PartitionSummary
from engagement.sinks.redis.board import RedisBoard
from engagement.sinks.redis.client import RedisOptions, connect
from engagement.sinks.redis.faults import FAR_BEHIND, SINK, WENT_BACK, ShardLostError
from engagement.sinks.redis.keeper import RECOUNT_DUE, RedisKeeper
from engagement.sinks.redis.lengths import LengthBook
from engagement.sinks.redis.meta import MetaWriter
from engagement.sinks.redis.places import Places, went_back
from engagement.sinks.redis.publisher import Publisher
from engagement.sinks.redis.ranges import RangeWriter
from engagement.sinks.redis.rebuild import BoardRebuild, History
from engagement.sinks.redis.reporting import Observer, Unpublished
from engagement.sinks.redis.summary import TaskSummary
from engagement.sinks.redis.writer import WritePlan
from engagement.transform.changes import Changes
from engagement.transform.content import Lengths

_CLOSE_SECONDS = 30.0


@dataclass(frozen=True)
class _Open:
    """What exists between `open` and `close`."""

    board: RedisBoard
    keeper: RedisKeeper
    thread: threading.Thread
    rebuilds: ThreadPoolExecutor
    writer: RangeWriter
    topic_id: str
    partitions: tuple[int, ...]
    """Those that have been asked for: the topic's, and any that is added later from its first micro-batch on."""
    reach: Mapping[int, int]
    """First offsets that a rebuild would have read when this was opened."""


class RedisSink:
    """The board's sink; opening it starts the keeper's thread, closing it ends it."""

    name = SINK
    content_first = False
    backfill_mends = True

    def __init__(self, options: RedisOptions, history: History, observer: Observer, app_id: str) -> None:
        self._options = options
        self._history = history
        self._observer = observer
        self._app_id = app_id
        self._writing = threading.RLock()
        self._unpublished = Unpublished(observer)
        self._places = Places()
        self._meta = MetaWriter()
        self._parts: _Open | None = None

    def open(self) -> None:
        """Connect, prove it, start the keeper. Raises: TransientSinkError, TransientError, PermanentSinkError."""
        self.close()
        topic_id, partitions = self._history.topic()[1], tuple(self._history.partitions())
        board = RedisBoard(connect(self._options), self._options)
        board.open()
        reach = self._history.offsets_at(board.rebuild_from_ms())
        rebuilds = ThreadPoolExecutor(1, thread_name_prefix="redis-rebuild")

        def rebuild(reason: str) -> Future[None]:
            return rebuilds.submit(self._rebuild, reason)

        publisher = Publisher(board.client, self._options)
        keeper = RedisKeeper(board, publisher, rebuild, self._places, self._unpublished)
        thread = threading.Thread(target=keeper.run, name="redis-keeper", daemon=True)
        writer = RangeWriter(board.client, self._options)
        self._parts = _Open(board, keeper, thread, rebuilds, writer, topic_id, partitions, reach)
        thread.start()

    def fence(self) -> Fence:
        """Next offset of every shard. Raises: TransientSinkError; while a shard is lost, until it has been rebuilt."""
        parts = self._opened()
        try:
            return self._fence(parts)
        except ShardLostError as error:
            parts.keeper.request_rebuild(error)
            raise

    def _fence(self, parts: _Open) -> Fence:
        known = self._places.known()
        states = parts.board.states(parts.partitions, parts.topic_id)
        places, reach = {partition: state.place for partition, state in states.items()}, parts.reach
        if back := went_back(known, places):
            # The gap is filled meanwhile, but nobody knows which lengths the shard is counted with now.
            parts.keeper.request_rebuild(ShardLostError(back[0], WENT_BACK))
            reach = self._history.offsets_at(parts.board.rebuild_from_ms())
        for partition, state in states.items():
            # One task would hold all that lies between; a rebuild reads less, and in pieces.
            if state.next_offset < reach.get(partition, 0):
                raise ShardLostError(partition, FAR_BEHIND)
        self._places.note(places)
        return {partition: state.next_offset for partition, state in states.items()}

    def deliver(
        self, changes: Changes, ranges: Sequence[OffsetRange], identity: BatchIdentity, *, final: bool
    ) -> list[PartitionSummary]:
        """Write the ranges' rows into their shards. Raises: TransientSinkError; a lost shard is being rebuilt then."""
        parts = self._opened()
        rows = changes
        if final:  # only the partitions that were held back; the others would be read and counted a second time
            rows = changes.of_partitions([part.partition for part in ranges])
        plan = WritePlan({}, identity, parts.topic_id, final=final)
        try:
            with self._writing:
                tasks = parts.writer.write(rows, ranges, plan)
        except ShardLostError as error:
            parts.keeper.request_rebuild(error)
            raise
        if added := {part.partition for part in ranges} - set(parts.partitions):
            self._parts = replace(parts, partitions=(*parts.partitions, *sorted(added)))
        written = [task.summary for task in tasks if not task.summary.unknown_content]
        self._places.delivered({summary.partition: summary.end for summary in written})
        for task in tasks:
            self._unpublished.add(task.summary.commit_times_ms)
        self._tell(tasks, parts.keeper)
        parts.keeper.wake()
        return [task.summary for task in tasks]

    def counted_lengths(self) -> Lengths:
        """The lengths that the board was counted with. Raises: TransientSinkError."""
        return LengthBook(self._opened().board.client).read()

    def note_lengths(self, lengths: Lengths) -> None:
        """Keep the lengths that the board is counted with from now on. Raises: TransientSinkError."""
        LengthBook(self._opened().board.client).write(lengths)

    def withheld(self, contents: frozenset[str]) -> frozenset[str]:
        """Of some contents, those that count on the board now or wait ahead of it; a rebuild follows if there are any.

        This is what makes a content's new length apply to everything at once. Raises: TransientSinkError.
        """
        parts = self._opened()
        if not contents:
            return frozenset()
        asked, found = sorted(contents), set[str]()
        for partition in parts.board.partitions():
            with suppress(ShardLostError):
                found |= parts.board.shard(partition).held(asked)
        if found:
            parts.keeper.request_rebuild(f"length of {len(found)} content(s) changed")
        return frozenset(found)

    def between_batches(self) -> AbstractContextManager[object]:
        """While entered, no other thread writes rows; whoever scores them enters it before."""
        return self._writing

    def write_meta(self, contents: pa.Table) -> None:
        """Write what readers see of contents (contract CONTENT) beside their numbers. Raises: TransientSinkError."""
        self._meta.write(self._opened().board.client, contents)

    def close(self) -> None:
        """End the keeper, wait for a rebuild under way, let go of the connection; safe to call twice."""
        parts = self._parts
        if parts is None:
            return
        parts.keeper.stop()
        parts.thread.join(_CLOSE_SECONDS)
        # Still open meanwhile: a rebuild writes beside the board after its swaps, and nobody asks for that again.
        parts.rebuilds.shutdown(wait=True, cancel_futures=True)
        self._parts = None
        parts.board.client.close()

    def _rebuild(self, reason: str) -> None:
        self._observer.rebuilding(reason)
        parts = self._opened()
        rebuild = BoardRebuild(parts.board, parts.writer, self._history, self.between_batches, self._app_id)
        rebuild.run(reason)
        # It lies beside the board and may have been lost with it; by now somebody may have read a newer catalogue.
        self._meta.write_anew(parts.board.client, self._history.recounted().contents)
        self._observer.rebuilt()

    def _tell(self, tasks: Sequence[TaskSummary], keeper: RedisKeeper) -> None:
        if any(task.snapshots for task in tasks):
            keeper.request_rebuild(RECOUNT_DUE)
        if other := sum(task.other_database for task in tasks):
            self._observer.alarm(
                f"{other} message(s) with an older LSN but a newer commit time: another or a restored database speaks; "
                f"they were taken; `./spark-submit.sh reconcile` compares the sinks with PostgreSQL"
            )

    def _opened(self) -> _Open:
        if self._parts is None:
            raise TransientSinkError(SINK, "is not open")
        if self._parts.keeper.failure is not None:
            raise TransientSinkError(SINK, f"its keeper has ended: {self._parts.keeper.failure}")
        return self._parts
