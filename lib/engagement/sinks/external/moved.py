"""Events that moved to another content, and so to another Kafka partition: their versions go out in order all the same.

So do those of events without a content, whose messages have no key and may be in any partition.

Within a partition versions come in order. A version that moved in from elsewhere may overtake older ones: in a
partition that another task sends, or that lies behind. So a round holds it back, with what follows it of its event
(held_back.py). Once all else of the micro-batch is out, they are sent in their order by one task, together with older
versions that partitions still hold beyond the micro-batch (`Elsewhere`). These are on record ahead of the fence, as
islands, and their own micro-batch finds them delivered. A crash between leaves the fence before what was held back, and
the replay holds it back again.

How far to look: the connector reads the database's log in order, so what is older was written to Kafka earlier.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from engagement.identity import Fence, OffsetRange
from engagement.sinks.external.events import to_events
from engagement.sinks.external.lanes import Lanes
from engagement.sinks.external.options import ExternalOptions
from engagement.sinks.external.outcomes import to_batch
from engagement.sinks.external.task import SendPlan, lane_plan, lane_world, write_outcomes
from engagement.sinks.held import is_version
from engagement.sinks.outcomes import NONE, OutcomeCounts, row_versions
from engagement.small_frames import small_frame
from engagement.transform.changes import Changes, Task

_PLACES = pa.schema([("partition", pa.int32()), ("offset", pa.int64())])
_NEWEST = pa.schema([("event_id", pa.int64()), ("newest", pa.int64())])
_CLOCK_MS = 100
"""What the connector's clock may be set back by between two messages. Most of what was held back is older than that by
the time it is sent, so that nothing lies beyond."""


class Elsewhere(Protocol):
    """The topic beyond what a micro-batch holds. Raises: TransientError."""

    def at_time(self, epoch_ms: int) -> Mapping[int, int]:
        """Partition -> first offset at or after a broker time; its end where there is none."""
        ...

    def messages(self, spark: SparkSession, ranges: Sequence[OffsetRange]) -> DataFrame:
        """Messages of some ranges (contract NARROW_MESSAGES), in a session: frames of two cannot meet in one plan."""
        ...


@dataclass(frozen=True)
class Reunion:
    """Versions that were held back, and what goes out before them."""

    messages: DataFrame
    """Contract NARROW_MESSAGES: more than is sent, for dead letters."""
    versions: DataFrame
    """Contract CHANGES: an event's versions in their order, all in one task."""


def reunite(
    changes: Changes,
    ranges: Sequence[OffsetRange],
    fence: Fence,
    held: Sequence[Mapping[str, Any]],
    elsewhere: Elsewhere,
) -> Reunion:
    """Bring together what a micro-batch held back (rows of outcomes.HELD_FIELD) with older versions beyond its ranges.

    Raises: TransientError.
    """
    spark = changes.messages.sparkSession
    reached = {**fence, **{part.partition: part.end for part in ranges}}
    until = elsewhere.at_time(max(row["kafka_ms"] for row in held) + _CLOCK_MS)
    topic = ranges[0].topic
    # Of a partition without a fence nothing was ever due to be sent before its first micro-batch.
    beyond = [OffsetRange(topic, p, start, until[p]) for p, start in reached.items() if until.get(p, start) > start]
    places = small_frame(spark, _PLACES, [(row["partition"], row["kafka_offset"]) for row in held])
    own = changes.messages.join(F.broadcast(places), ["partition", "offset"], "left_semi").select(
        changes.messages.columns
    )
    versions = replace(changes, messages=own).frame().where(is_version())
    if not beyond:
        return Reunion(own, _in_order(versions))
    newest: dict[int, int] = {}
    for row in held:
        newest[row["event_id"]] = max(row["version"], newest.get(row["event_id"], 0))
    known = small_frame(spark, _NEWEST, list(newest.items()))
    there = elsewhere.messages(spark, beyond)
    older = replace(changes, messages=there).frame().where(is_version()).join(F.broadcast(known), "event_id")
    older = older.where(F.col("version") < F.col("newest"))
    return Reunion(own.unionByName(there), _in_order(versions.unionByName(older.select(versions.columns))))


def _in_order(versions: DataFrame) -> DataFrame:
    return versions.coalesce(1).sortWithinPartitions("event_id", "version")


def make_moved_task(plan: SendPlan, options: ExternalOptions) -> Task:
    """Give the work of the one task: versions in order in, rows of outcomes.SCHEMA out, one per partition."""
    return partial(send_in_order, plan=plan, options=options)


def send_in_order(
    batches: Iterable[pa.RecordBatch], *, plan: SendPlan, options: ExternalOptions
) -> Iterator[pa.RecordBatch]:
    """Send what comes and has no outcome. The messages were counted when they were held back. Raises: OSError."""
    with closing(Lanes(lane_plan(plan, options), lane_world(options))) as lanes:
        for batch in (batch for batch in batches if batch.num_rows):
            for event in to_events(_not_done(batch, plan), options.installation):
                lanes.put(event)
        result = lanes.finish()
    versions = [*(outcome.version for outcome in result.outcomes), *result.left]
    counted = {p: OutcomeCounts(p) for p in (*plan.ranges, *(version.partition for version in versions))}
    # Of a partition that the micro-batch has nothing of, everything lies beyond.
    ends = {partition: plan.ranges.get(partition, (0, 0))[1] for partition in counted}
    yield to_batch(counted, result, write_outcomes(result, plan), ends=ends)


def _not_done(versions: pa.RecordBatch, plan: SendPlan) -> pa.RecordBatch:
    partitions = pc.unique(versions.column("kafka_partition")).to_pylist()
    kept = pa.array([False] * versions.num_rows)
    for number in partitions:
        here = pc.equal(versions.column("kafka_partition"), number)
        of_one = versions.filter(here)
        left = row_versions(of_one, plan.fence.get(number, 0), plan.done.get(number, NONE)).column("kafka_offset")
        kept = pc.or_(kept, pc.and_(here, pc.is_in(versions.column("kafka_offset"), value_set=left)))
    return versions.filter(kept)
