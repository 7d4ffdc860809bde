"""What runs inside the Spark task of a backfill: a chunk's row versions to the receiver, no faster than it is allowed.

The stream's task (task.py) but for three things: there is one of it, so that its rate is the backfill's; rows have no
place in Kafka, so their event stands for it; and it reads no further once its time is up, whatever the chunk still
holds.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa

from engagement.sinks.external.events import RowVersion, to_events
from engagement.sinks.external.lanes import Lanes
from engagement.sinks.external.options import ExternalOptions
from engagement.sinks.external.outcomes import to_batch
from engagement.sinks.external.task import SendPlan, lane_plan, lane_world, write_outcomes
from engagement.sinks.outcomes import ANY_PLACE, OutcomeCounts, row_versions
from engagement.transform.changes import Task
from engagement.transform.columns import repeated

TABLE_PARTITION = 0
"""Where rows of PostgreSQL's table stand in place of Kafka's partition, with their id in place of an offset."""
_LEAST_SLEEP_SECONDS = 0.01


@dataclass(frozen=True)
class ChunkPlan:
    """What the task needs to know."""

    send: SendPlan
    """Its ranges, fence and what is done are empty: what is not to be sent does not come."""
    events_per_second: float


class Rate:
    """Lets events pass no faster than so many a second, counted from the first."""

    def __init__(
        self, events_per_second: float, monotonic: Callable[[], float], sleep: Callable[[float], object]
    ) -> None:
        self._step = 1.0 / events_per_second
        self._monotonic = monotonic
        self._sleep = sleep
        self._due: float | None = None

    def wait(self, deadline: float) -> bool:
        """Wait for an event's turn; false, without waiting, when that comes after the deadline (of `monotonic`)."""
        now = self._monotonic()
        due = now if self._due is None else self._due
        if max(due, now) >= deadline:
            return False
        # To sleep for each of a thousand events a second would cost more than to send them.
        if due - now >= _LEAST_SLEEP_SECONDS:
            self._sleep(due - now)
        # What a slow receiver has held up is not made good by a burst.
        self._due = max(due, now) + self._step
        return True


def make_chunk_task(plan: ChunkPlan, options: ExternalOptions) -> Task:
    """Give the work of the task: changes in, one row of outcomes.SCHEMA out."""
    return partial(send_chunk, plan=plan, options=options)


def send_chunk(
    batches: Iterable[pa.RecordBatch], *, plan: ChunkPlan, options: ExternalOptions
) -> Iterator[pa.RecordBatch]:
    """Send what comes, in its order, and answer with one row; what its time does not reach is left. Raises: OSError."""
    world, counts = lane_world(options), OutcomeCounts(TABLE_PARTITION)
    deadline = world.monotonic() + plan.send.budget_seconds
    rate = Rate(plan.events_per_second, world.monotonic, world.sleep)
    left: list[RowVersion] = []
    with closing(Lanes(lane_plan(plan.send, options), world)) as lanes:
        for batch in (batch for batch in batches if batch.num_rows):
            placed = _placed(batch)
            counts.add(placed, ANY_PLACE)
            for event in to_events(row_versions(placed, ANY_PLACE), options.installation):
                if left or lanes.stopped or not rate.wait(deadline):
                    left.append(event.version)
                else:
                    lanes.put(event)
            if left:
                break  # the rest of the chunk comes in the next round
        result = lanes.finish()
    found = replace(result, left=[*result.left, *left])
    yield to_batch({TABLE_PARTITION: counts}, found, write_outcomes(result, plan.send))


def _placed(changes: pa.RecordBatch) -> pa.RecordBatch:
    """Rows that stand at their event. In and out: CHANGES."""
    partition = repeated(TABLE_PARTITION, pa.int32(), changes.num_rows)
    places = {"kafka_partition": partition, "kafka_offset": changes.column("event_id")}
    names = changes.schema.names
    return pa.RecordBatch.from_arrays([places.get(name, changes.column(name)) for name in names], names)
