"""The driver's record of what was delivered: the deliveries' table, its fence, and the dead letters."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession

from engagement.identity import BatchIdentity, OffsetRange
from engagement.sinks.delta.fence import DeltaFence
from engagement.sinks.delta.letters import add_letters
from engagement.sinks.delta.log import DeltaLog
from engagement.sinks.delta.tables import dead_letters_table
from engagement.sinks.delta.upkeep import Upkeep, UpkeepPlan
from engagement.sinks.external.deliveries import deliveries_table, islands, rejected_letters
from engagement.sinks.external.options import SINK
from engagement.sinks.external.outcomes import Part
from engagement.sinks.spark_faults import spark_translated
from engagement.transform.instant import to_micros


class DeliveryLedger:
    """Reads and moves the fence; every method raises TransientSinkError when it fails."""

    def __init__(self, spark: SparkSession, lake: str, upkeep: UpkeepPlan, clock: Callable[[], datetime]) -> None:
        self._spark = spark
        self.deliveries = deliveries_table(lake)
        self.dead_letters = dead_letters_table(SINK, lake)
        self._upkeep = Upkeep(spark, (self.deliveries,), upkeep, clock)
        self._clock = clock
        self.topic_id = ""
        self._log: DeltaLog | None = None
        self._known: Standing | None = None
        """Where this driver left it, if it knows what is done beyond: to look that up means to read the table."""

    def open(self, topic_id: str) -> None:
        """Make the tables, or check those that are there. Raises: TransientSinkError, PermanentSinkError."""
        self.topic_id = topic_id
        with spark_translated(SINK):
            self._upkeep.prepare()
            self.deliveries.prepare()
            self.dead_letters.prepare()

    def read(self, *, beyond: Mapping[int, pa.Array] | None = None) -> "Standing":
        """How far the table has got now; `beyond`: what the caller knows to be done, and no more matters to it."""
        self._log = DeltaLog(self.deliveries)
        fence, _ = self._log.fence(self.topic_id)
        # Where no commit tells of a fence, the rows do not either: there may be gaps between them.
        found = fence or DeltaFence(self.topic_id, {})
        if beyond is not None or not found.islands:
            return Standing(found, beyond or {})
        if self._known and self._known.fence == found:
            return self._known
        with spark_translated(SINK):
            return Standing(found, islands(self._spark, self.deliveries, found))

    def record(
        self,
        before: "Standing",
        messages: DataFrame,
        parts: Sequence[Part],
        ranges: Sequence[OffsetRange],
        identity: BatchIdentity,
    ) -> None:
        """Store the outcomes of a round and move the fence as far as nothing is left, from where `read` has found it.

        Raises: TransientSinkError, also when another driver has done so meanwhile.
        """
        rejected = [row for part in parts for row in part.rejected]
        if rejected:
            self.add_letters(rejected_letters(messages, rejected, str(identity)))
        after = fence_after(before, ranges, parts)
        self._known = None if any(part.left for part in parts) else Standing(after, done_beyond(before, ranges, parts))
        if after != before.fence:
            self.commit([file for part in parts for file in part.files], before.fence, after, identity)

    def add_letters(self, letters: DataFrame) -> None:
        """Add dead letters to their table: a replay adds none twice. Raises: TransientSinkError."""
        add_letters(self._spark, self.dead_letters, letters, to_micros(self._clock()) // 1000)

    def commit(
        self, files: Sequence[Mapping[str, Any]], before: DeltaFence, after: DeltaFence, identity: BatchIdentity
    ) -> None:
        """Make outcomes visible and the fence move, both or neither. Raises: TransientSinkError."""
        log = self._log or DeltaLog(self.deliveries)
        log.append(files, before, after, identity)
        with spark_translated(SINK):
            # Islands are looked up in the rows; without any, the fence in this commit says all that is needed.
            self._upkeep.after_commit(may_forget=not after.islands)


@dataclass(frozen=True)
class Standing:
    """How far the deliveries have got."""

    fence: DeltaFence
    done: Mapping[int, pa.Array]
    """Partition -> offsets at or beyond the fence that have an outcome."""


def done_beyond(before: Standing, ranges: Sequence[OffsetRange], parts: Sequence[Part]) -> dict[int, pa.Array]:
    """Partition -> offsets at or beyond the ends of the ranges that have an outcome, once nothing of them is left."""
    ends = {part.partition: part.end for part in ranges}
    ahead = {part.partition: pa.array(part.ahead, pa.int64()) for part in parts if part.ahead}
    found = {}
    for partition in before.done.keys() | ahead.keys():
        offsets = pa.concat_arrays([side[partition] for side in (before.done, ahead) if partition in side])
        kept = offsets.filter(pc.greater_equal(offsets, ends.get(partition, 0)))
        if len(kept):
            found[partition] = kept
    return found


def fence_after(before: Standing, ranges: Sequence[OffsetRange], parts: Sequence[Part]) -> DeltaFence:
    """The fence after a round: at the end of each range, or at the first row version that is left of it.

    What is done beyond it are islands: of this round, if it left something or sent ahead; or of an earlier one, whose
    ranges may have gone further. A round without an outcome that leaves something moves nothing.
    """
    first_left: dict[int, int] = {}
    for part in parts:  # a partition that several tasks share has several
        if part.first_left is not None:
            first_left[part.partition] = min(part.first_left, first_left.get(part.partition, part.first_left))
    ahead = any(part.ahead for part in parts)
    if first_left and not ahead and not any(part.delivered or part.rejected for part in parts):
        return before.fence
    reached = [replace(span, end=min(span.end, first_left.get(span.partition, span.end))) for span in ranges]
    after = before.fence.after(reached, {})
    beyond = any(pc.max(done).as_py() >= after.next_offsets.get(p, 0) for p, done in before.done.items())
    return replace(after, islands=before.fence.islands + 1 if first_left or beyond or ahead else 0)
