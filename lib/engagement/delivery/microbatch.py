"""One micro-batch, the same for every sink: compare plan and fence, fill the gap, deliver, settle unknown contents.

Where a crash can fall, and why the replay repairs it:

* before `deliver`: nothing has happened; Spark hands the same rows out again.
* within `deliver`: partitions whose fence moved hold their rows, the others hold none; the replay offers all of them,
  the sink takes what lies above each fence.
* after `deliver`, before Spark's commit: every fence stands at the end of its range; the replay delivers nothing.

A sink that went back lacks rows before the plan; they are read again and written first. If they are more than
MOST_GAP_ROWS, GapError restarts the query from the fence (agreement.py), and Spark reads them in batches of the usual
size.

None of this asks whether Spark's batch id was seen before: see identity.py for why it may lie.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from pyspark.sql import DataFrame

from engagement.delivery.checkpoint import Checkpoint
from engagement.delivery.offsets import MOST_GAP_ROWS, find_gaps
from engagement.errors import ContractError, EngagementError, GapError, TransientError
from engagement.identity import BatchIdentity, Fence, OffsetRange
from engagement.sinks.base import PartitionSummary, Sink
from engagement.transform.changes import Changes


class ChangeReader(Protocol):
    """Kafka ranges through the one transform."""

    def messages(self, ranges: Sequence[OffsetRange]) -> DataFrame:
        """Messages of some ranges (contract NARROW_MESSAGES), as a batch."""
        ...

    def changes(self, messages: DataFrame, ranges: Sequence[OffsetRange]) -> Changes:
        """What the transform makes of the messages of these ranges with the contents this query counts with now."""
        ...

    def refresh_content(self) -> None:
        """Take the catalogue as PostgreSQL holds it now. Raises: TransientError."""
        ...

    def steady(self) -> AbstractContextManager[object]:
        """While entered, no other thread changes what this query counts with."""
        ...


class BatchObserver(Protocol):
    """Told what happened, never asked; it must not raise."""

    def delivered(self, identity: BatchIdentity, summaries: Sequence[PartitionSummary], seconds: float) -> None:
        """A micro-batch (or the gap before it) is in the sink, so long after it was begun."""
        ...

    def waiting(self, reason: str) -> None:
        """The sink or something it needs does not answer; the same batch will be tried again."""
        ...


@dataclass(frozen=True)
class Patience:
    """How long the same micro-batch is tried again before the query is left to fail and restart."""

    delays_seconds: tuple[float, ...]
    sleep: Callable[[float], object]
    give_up: Callable[[], bool]
    """Asked before each wait; true once the job has been told to stop."""
    clock: Callable[[], float]
    """Monotonic seconds."""


class MicroBatchRunner:
    """The foreachBatch function of one query."""

    def __init__(
        self,
        sink: Sink,
        checkpoint: Checkpoint,
        reader: ChangeReader,
        observer: BatchObserver,
        patience: Patience,
        app_id: str,
    ) -> None:
        self._sink = sink
        self._checkpoint = checkpoint
        self._reader = reader
        self._observer = observer
        self._patience = patience
        self._app_id = app_id
        self._generation: str | None = None
        self.turn: Callable[[], AbstractContextManager[object]] = nullcontext
        """Entered for as long as a micro-batch works, by queries that share something."""
        self.gate = threading.Lock()
        """Held while a micro-batch is under way, so that a stop can wait for its end."""
        self.error: EngagementError | None = None
        """Why the last micro-batch failed; Spark passes only its text on."""
        self.last_batch_id: int | None = None
        """The newest micro-batch that this start of the query has delivered."""
        self.taken: Fence | None = None
        """What the sink holds as far as this query knows, without asking it: for the lag. None before it was asked."""

    def begin(self) -> None:
        """Forget what an earlier start of the query left behind; the checkpoint may be another one now."""
        self._generation = None
        self.error = None
        self.last_batch_id = None

    def __call__(self, messages: DataFrame, batch_id: int) -> None:
        """Deliver one micro-batch; returns only when the sink holds it. Raises: EngagementError."""
        with self.gate:
            if self._patience.give_up():
                self.error = TransientError("stopping; the micro-batch stays for the next start")
                raise self.error
            try:
                with self.turn():
                    self._deliver_patiently(messages, batch_id)
            except EngagementError as error:
                self.error = error
                raise
            self.last_batch_id = batch_id

    def skip(self, lost: Sequence[OffsetRange]) -> None:
        """Move the fence beyond ranges that Kafka no longer holds, writing no row. Raises: EngagementError."""
        empty = [OffsetRange(part.topic, part.partition, part.end, part.end) for part in lost]
        with self.gate:
            self._write(self._reader.messages(empty), lost, BatchIdentity(self._app_id, "skipped", 0))

    def _deliver_patiently(self, messages: DataFrame, batch_id: int) -> None:
        if self._generation is None:
            self._generation = self._checkpoint.generation()
        identity = BatchIdentity(self._app_id, self._generation, batch_id)
        planned = self._checkpoint.planned_ranges(batch_id)
        for delay in self._patience.delays_seconds:
            try:
                self._deliver(messages, planned, identity)
            except TransientError as error:
                self._observer.waiting(str(error))
                if self._patience.give_up():
                    raise
                self._patience.sleep(delay)
            else:
                return
        self._deliver(messages, planned, identity)

    def _deliver(self, messages: DataFrame, planned: Sequence[OffsetRange], identity: BatchIdentity) -> None:
        fence, taken = self._sink.fence(), self.taken or {}
        gaps = find_gaps(planned, fence)
        forgotten = taken.keys() - fence.keys()
        # A gap is written at once, and a task may hold all of its rows.
        if forgotten or sum(gap.end - gap.start for gap in gaps) > MOST_GAP_ROWS:
            raise GapError(f"the sink has gone back from {dict(taken)} to {dict(fence)}")
        if gaps:
            self._write(self._reader.messages(gaps), gaps, identity)
        self._write(messages, planned, identity)
        self.taken = {**fence, **{part.partition: max(part.end, fence.get(part.partition, 0)) for part in planned}}

    def _write(self, messages: DataFrame, ranges: Sequence[OffsetRange], identity: BatchIdentity) -> None:
        with self._reader.steady():
            self._score_and_write(messages, ranges, identity)

    def _score_and_write(self, messages: DataFrame, ranges: Sequence[OffsetRange], identity: BatchIdentity) -> None:
        began = self._patience.clock()
        if self._sink.content_first:
            # Read after the messages were planned, so a content that is unknown now came later than its events.
            self._reader.refresh_content()
        changes = self._reader.changes(messages, ranges)
        summaries = self._sink.deliver(changes, ranges, identity, final=self._sink.content_first)
        if any(summary.unknown_content for summary in summaries):
            settled = [s for s in summaries if not s.unknown_content]
            self._tell(identity, settled, began)
            self._reader.refresh_content()
            held_back = {s.partition for s in summaries if s.unknown_content}
            left = [part for part in ranges if part.partition in held_back]
            summaries = self._sink.deliver(self._reader.changes(messages, left), left, identity, final=True)
        self._tell(identity, summaries, began)

    def _tell(self, identity: BatchIdentity, summaries: Sequence[PartitionSummary], began: float) -> None:
        """Count what was done, a difference too: the replay finds everything delivered and would show none."""
        self._observer.delivered(identity, summaries, self._patience.clock() - began)
        lost = {s.partition: s.conservation_difference for s in summaries if s.conservation_difference}
        if lost:
            raise ContractError(f"batch {identity}: messages without an outcome, by partition: {lost}")
