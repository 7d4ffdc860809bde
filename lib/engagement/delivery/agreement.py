"""What a query's start makes agree: the sink's fence, what the topic holds, and where the checkpoint would go on.

The fence is the truth, the other two are compared with it, two numbers per partition:

* the checkpoint would go on beyond the fence: the sink was emptied, restored from a copy, or its topic was made again.
  The checkpoint is set aside; Spark then takes what is between in micro-batches of its usual size.
* the topic begins beyond the fence: messages aged out before the sink had them. Nothing here brings them back, so the
  query stands still and says which they are, until somebody has filled the sink from PostgreSQL and says so.
* there is no fence: the sink takes all that the topic holds. A first start at `latest` therefore writes one, so that a
  sink that is emptied later is not taken for one that never had anything.
* the topic ends before the fence: Kafka lost its newest messages, or is still finding them. New ones would get offsets
  that count as delivered, so nothing is taken until the topic has grown past the fence again.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from engagement.delivery.checkpoint import Checkpoint
from engagement.delivery.microbatch import MicroBatchRunner
from engagement.delivery.offsets import beyond_end, lost_ranges
from engagement.errors import DataLossError, TransientError
from engagement.identity import Fence, OffsetRange
from engagement.sinks.base import Sink
from engagement.sources.kafka import KafkaTopic, TopicPositions, to_starting_offsets

log = logging.getLogger(__name__)

_LATEST = "latest"


@dataclass
class Agreement:
    """Of one query; asks nothing before it is asked."""

    sink: Sink
    checkpoint: Checkpoint
    topic: KafkaTopic
    positions: TopicPositions
    runner: MicroBatchRunner
    starting_offsets: str
    """`earliest` or `latest`, for the first start: one without fence and without checkpoint."""
    skip_lost: bool
    """Whether to go on behind messages that Kafka no longer holds."""
    _topic_id: str = field(default="", init=False)
    """As the query's start found it."""

    def reach(self, await_fence: Callable[[], Fence]) -> str:
        """Where a new checkpoint would begin. Raises: DataLossError, TransientError."""
        self._topic_id = self.positions.topic_id()
        fence = await_fence()
        bounds = self.positions.bounds()  # after the fence, which only moves where the topic has got to
        if ends := beyond_end(fence, bounds):
            raise TransientError(
                f"{self.topic.topic} ends at {ends}, before what {self.sink.name} has taken, {dict(fence)}: "
                f"Kafka has lost its newest messages, or is still looking for them"
            )
        if lost := lost_ranges(self.topic.topic, fence, bounds):
            self._skip(lost)
            fence = await_fence()
        if self.starting_offsets == _LATEST and not fence and not self.checkpoint.path.exists():
            self.runner.skip([OffsetRange(self.topic.topic, number, *bound) for number, bound in bounds.items()])
            fence = await_fence()
        self.runner.taken = fence
        damage = self.checkpoint.damage(self.topic.topic, bounds, fence)
        if damage is not None:
            log.warning(
                "query %s: %s; the checkpoint was moved to %s, and the query starts from what the sink holds",
                self.sink.name,
                damage,
                self.checkpoint.set_aside(),
            )
        first = {number: begin for number, (begin, _) in bounds.items()}
        return to_starting_offsets(self.topic.topic, {**first, **fence})

    def check(self) -> None:
        """See whether the sink has gone back, or the topic is another one, while nothing came that would have shown it.

        Raises: TransientError when it has, PermanentSinkError.
        """
        if not self.runner.gate.acquire(blocking=False):
            return  # a micro-batch is under way: it compares for itself
        try:
            held, topic_id = self.sink.fence(), self.positions.topic_id()
        except TransientError:
            return  # whatever is away is told by its own probe, and the next look sees what it has left
        finally:
            self.runner.gate.release()
        if topic_id != self._topic_id:
            raise TransientError(f"the topic {self.topic.topic} was deleted and made again")
        if any(held.get(partition, 0) < offset for partition, offset in self.runner.taken.items()):
            raise TransientError(f"{self.sink.name} has gone back from {dict(self.runner.taken)} to {dict(held)}")

    def _skip(self, lost: Sequence[OffsetRange]) -> None:
        ranges, name = ", ".join(map(str, lost)), self.sink.name
        if not self.skip_lost:
            raise DataLossError(
                f"Kafka no longer holds {ranges}, which {name} has yet to take. Add the rows from PostgreSQL by "
                f"`./spark-submit.sh backfill --start-date 0001-01-01 --end-date 2100-01-01 --sinks {name}`, start the "
                f"job once by `./spark-submit.sh stream --skip-lost {name}`, and mend what was changed or deleted "
                f"meanwhile by `./spark-submit.sh reconcile --repair`"
            )
        log.warning("query %s: going on behind %s, which Kafka no longer holds", name, ranges)
        self.runner.skip(lost)
