"""Reconciles three positions when a query starts: the sink's fence, the topic's bounds, the checkpoint.

The fence wins:

* the checkpoint would go on beyond the fence: the sink was emptied, restored from a copy, or its topic was made again.
  The checkpoint is set aside; Spark then takes what is between in micro-batches of its usual size. So it is when the
  fence lies far beyond it, as after a board was counted again: Spark would read all that is between, for nothing.
* the topic begins beyond the fence: messages aged out before the sink had them. Nothing here brings them back, so the
  query stands still and says which they are, until somebody has filled the sink from PostgreSQL and says so.
* there is no fence: the sink takes all that the topic holds. A first start at `latest` therefore writes one, so that a
  sink that is emptied later is not taken for one that never had anything. Where a sink refused everything, or to be
  opened at all, for so long that messages aged out, what lies beside the checkpoint says where its query was to begin.
* the topic ends before the fence: Kafka lost its newest messages, or is still finding them. If it does not find them,
  new ones take offsets that count as delivered. Offsets do not tell the two apart, so once the topic has grown past the
  fence the query goes on, and a person is told what to compare. It may have grown that far before anybody looks here:
  where Spark saw it meanwhile, the checkpoint's newest plan goes back to where the topic had ended.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from engagement.delivery.checkpoint import Checkpoint
from engagement.delivery.microbatch import MicroBatchRunner
from engagement.delivery.offsets import Bounds, beyond_end, lost_ranges
from engagement.errors import DataLossError, TransientError
from engagement.identity import Fence, OffsetRange
from engagement.sinks.base import Sink
from engagement.sources.kafka import KafkaTopic, TopicPositions, to_starting_offsets

log = logging.getLogger(__name__)

_LATEST = "latest"


class OnLoss(Enum):
    """What a query does about messages that Kafka no longer holds."""

    STAND_STILL = "stand still"
    SKIP_ONCE = "skip once"
    """Skip what is already lost when the process starts (`--skip-lost`: an operator vouches for those rows); stand
    still for later losses."""
    SKIP = "skip"


@dataclass
class Agreement:
    """One query's check at start and once a minute; no I/O before `begin`."""

    sink: Sink
    checkpoint: Checkpoint
    topic: KafkaTopic
    positions: TopicPositions
    runner: MicroBatchRunner
    starting_offsets: str
    """`earliest` or `latest`, for the first start: one without fence and without checkpoint."""
    on_loss: OnLoss
    _topic_id: str = field(default="", init=False)
    """As the query's start found it, before its sink did."""
    _ended_at: dict[int, int] = field(default_factory=dict, init=False)
    """Lowest end of each partition that was seen to end before the fence."""
    _agreed_on: str = field(default="", init=False)
    """Id of the topic of the newest start that came to its end here."""
    _was_silent: bool = field(default=False, init=False)
    """Whether the sink gave the last look no answer."""

    def begin(self) -> None:
        """Before the sink is opened: note which topic it is, and, the first time, where the query is to begin.

        The sink asks for the topic too: one that is made again between is then seen by `check`.
        Raises: TransientError, PermanentError.
        """
        self._topic_id = self.positions.topic_id()
        noted = self.checkpoint.noted_beginning()
        if self.checkpoint.was_used() or self._topic_id in noted:
            return
        # A topic that was made again meanwhile is taken whole.
        side = int(self.starting_offsets == _LATEST and not noted)
        begins = {number: bound[side] for number, bound in self.positions.bounds().items()}
        self.checkpoint.note_beginning(self._topic_id, begins)

    def reach(self, await_fence: Callable[[], Fence]) -> str:
        """Where a new checkpoint would begin. Raises: DataLossError, TransientError."""
        self._was_silent = False
        fence = await_fence()
        bounds = self.positions.bounds()  # after the fence, which only moves where the topic has got to
        self._check_end(fence, bounds)
        begun = self.checkpoint.begun_at(self.topic.topic, self._topic_id)
        skipped = {part.partition: part for part in lost_ranges(self.topic.topic, fence or begun, bounds)}
        if skipped:
            self._tell_skipped(list(skipped.values()))
        if self.starting_offsets == _LATEST and not fence and not self.checkpoint.was_used():
            for number, (begin, end) in bounds.items():
                # A partition that is newer than the note begins where it does: all in it came later.
                until = max(begin, min(end, begun.get(number, begin if begun else end)))
                skipped.setdefault(number, OffsetRange(self.topic.topic, number, begin, until))
        if skipped:  # at once: a start that broke off between two of them would take the rest for a fence
            self.runner.skip([skipped[number] for number in sorted(skipped)])
            fence = await_fence()
        if self.on_loss is OnLoss.SKIP_ONCE:
            self.on_loss = OnLoss.STAND_STILL
        self.runner.taken = fence
        damage = self.checkpoint.damage(self.topic.topic, bounds, fence)
        if damage is not None:
            log.warning(
                "query %s: %s; the checkpoint was moved to %s, and the query starts from what the sink holds",
                self.sink.name,
                damage,
                self.checkpoint.set_aside(),
            )
        self._agreed_on = self._topic_id
        first = {number: begin for number, (begin, _) in bounds.items()}
        return to_starting_offsets(self.topic.topic, {**first, **fence})

    def check(self) -> None:
        """See whether the topic is another one, or the sink has gone back while nothing came that would have shown it.

        Raises: TransientError when it has, or when the sink did not answer twice in a row: what is away for a moment
        comes back by itself, but a table that is gone looks no different, and only a start makes it anew.
        PermanentError.
        """
        try:
            topic_id = self.positions.topic_id()
        except TransientError:
            return  # no start would help against that, and it would close a sink that goes on by itself meanwhile
        self.checkpoint.forget_beginning()
        if topic_id != self._topic_id:
            raise TransientError(f"the topic {self.topic.topic} was deleted and made again")
        try:
            held = self._held()
        except TransientError:
            if self._was_silent:
                raise
            self._was_silent = True
            return
        self._was_silent = False
        taken = self.runner.taken or {}
        if held is not None and any(held.get(partition, 0) < at for partition, at in taken.items()):
            raise TransientError(f"{self.sink.name} has gone back from {dict(taken)} to {dict(held)}")

    def _held(self) -> Fence | None:
        """The fence; None while a micro-batch is under way, which compares for itself."""
        if not self.runner.gate.acquire(blocking=False):
            return None
        try:
            return self.sink.fence()
        finally:
            self.runner.gate.release()

    def _check_end(self, fence: Fence, bounds: Bounds) -> None:
        topic, name = self.topic.topic, self.sink.name
        for tail in self.checkpoint.lost_tails(topic) if self._agreed_on in ("", self._topic_id) else ():
            self._ended_at[tail.partition] = min(tail.start, self._ended_at.get(tail.partition, tail.start))
        if ends := beyond_end(fence, bounds):
            lowest = {number: min(end, self._ended_at.get(number, end)) for number, end in ends.items()}
            self._ended_at |= lowest
            raise TransientError(
                f"{topic} ends at {ends}, before what {name} has taken, {dict(fence)}: "
                f"Kafka has lost its newest messages, or is still looking for them"
            )
        ranges = [
            OffsetRange(topic, number, end, fence[number])
            for number, end in sorted(self._ended_at.items())
            if end < fence.get(number, 0)  # the sink may have been emptied meanwhile, or the topic made again
        ]
        self._ended_at.clear()
        if ranges:
            log.error(
                "query %s: Kafka had lost %s and has them again, or has taken other messages in their place, which %s "
                "then lacks: `./spark-submit.sh reconcile --repair` compares, and mends",
                name,
                ", ".join(map(str, ranges)),
                name,
            )

    def _tell_skipped(self, lost: Sequence[OffsetRange]) -> None:
        ranges, name = ", ".join(map(str, lost)), self.sink.name
        if self.on_loss is OnLoss.STAND_STILL:
            raise DataLossError(f"Kafka no longer holds {ranges}, which {name} has yet to take. {_remedy(self.sink)}")
        log.warning("query %s: going on behind %s, which Kafka no longer holds", name, ranges)


def _remedy(sink: Sink) -> str:
    name, start = sink.name, f"`./spark-submit.sh stream --skip-lost {sink.name}`"
    if not sink.backfill_mends:
        mend = f"`./spark-submit.sh reconcile --sinks {name} --repair`"
        return f"Start the job once by {start}; once it has caught up, send what is lacking by {mend}"
    return (
        f"Add the rows from PostgreSQL by `./spark-submit.sh backfill --start-date 0001-01-01 --end-date 2100-01-01 "
        f"--sinks {name}`, start the job once by {start}, and mend what was changed or deleted meanwhile by "
        f"`./spark-submit.sh reconcile --repair`"
    )
