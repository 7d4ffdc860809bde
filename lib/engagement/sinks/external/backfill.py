"""History to the external system: what the deliveries do not tell of is sent, in order, no faster than it is allowed.

Guarantee: at least once, with the keys that the stream gives the same row versions; rows as PostgreSQL holds them now
are version 0, older for the receiver than whatever the stream sends of them. Where a crash can fall:

* before or between requests, or after an answer: what was acknowledged and is not in the table yet is sent again, with
  the same keys; that is at most what one round sends (BUDGET_SECONDS).
* between the dead letters and the commit: letters are known by the event, so the repetition adds none twice.
* after the commit: the rows are there, and the repetition sends none of their events.

Beside the stream: its fence lies in the commits of the same table, so ours carry it along, unchanged; see
`DeltaLog.append_beside`. An event that both have on their hands may go out as both versions; the receiver keeps the
newer. Beside another backfill: both may send, with the same keys, and both outcomes stay on record.

What was refused by the receiver is a dead letter; a later backfill tries it again, and so mends it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from uuid import uuid4

from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from engagement.errors import TransientSinkError
from engagement.retry import RetryPolicy, call_with_retry
from engagement.schemas import TABLE_TOPIC, Kind
from engagement.sinks.base import Additions, Chunk, Loaded
from engagement.sinks.delta.letters import add_letters
from engagement.sinks.delta.log import DeltaLog
from engagement.sinks.delta.tables import LakeTable, dead_letters_table
from engagement.sinks.external.chunk_task import ChunkPlan, make_chunk_task
from engagement.sinks.external.deliveries import (
    NO_TOPIC,
    deliveries_table,
    rejected_letters,
    table_messages,
)
from engagement.sinks.external.gate import GateState
from engagement.sinks.external.lane import Status
from engagement.sinks.external.options import SINK, ExternalOptions
from engagement.sinks.external.outcomes import SCHEMA, Part, from_rows
from engagement.sinks.external.receiver import GateObserver, Receiver, Waiting
from engagement.sinks.external.sink import BUDGET_SECONDS
from engagement.sinks.external.task import SendPlan
from engagement.sinks.held import BROADCAST_ROWS, is_version, without
from engagement.sinks.spark_faults import spark_translated
from engagement.transform.instant import to_micros

_COMMITS = RetryPolicy(attempts=8, base_seconds=0.2, cap_seconds=2.0)
"""To give up here would mean to send again."""


@dataclass(frozen=True)
class _Round:
    """What one round made of a chunk."""

    part: Part
    read: int
    """Row versions in the chunk, if the round saw all of it."""
    refused: int
    """Its dead letters of the transform."""


class ExternalLoader:
    """Posts chunks and appends to `deliveries` (sinks.base.Loader); opens nothing before `open`."""

    name = SINK

    def __init__(
        self,
        spark: SparkSession,
        lake: str,
        options: ExternalOptions,
        events_per_second: float,
        observer: GateObserver,
        waiting: Waiting,
    ) -> None:
        self._spark = spark
        self._options = options
        self._rate = events_per_second
        self._waiting = waiting
        self._receiver = Receiver(options, waiting, observer)
        self.deliveries = deliveries_table(lake)
        self.dead_letters = dead_letters_table(SINK, lake)
        self._delivered, self._rejected = Additions(), Additions()
        self.log: Callable[[LakeTable], DeltaLog] = DeltaLog
        """How commits are made; a test puts its faults between."""
        self.broadcast_rows = BROADCAST_ROWS

    def open(self) -> None:
        """Make the tables, or check those that are there. Raises: TransientSinkError, PermanentSinkError."""
        with spark_translated(SINK):
            self.deliveries.prepare()
            self.dead_letters.prepare()

    def destination(self) -> str:
        """Its two tables since the newest RESTORE, the receiver, what keys begin with. Raises: TransientSinkError."""
        tables = (DeltaLog(table).identity for table in (self.deliveries, self.dead_letters))
        return " ".join((*tables, self._options.url, self._options.installation))

    def load(self, chunk: Chunk) -> Loaded:
        """Send what is missing; waits while the receiver takes nothing.

        Raises: TransientSinkError when it cannot be recorded, and once the job is told to stop.
        """
        while True:
            self._receiver.await_passable()
            done = self._round(chunk)
            self._receiver.judge([done.part])
            if not done.part.left:
                break
            if self._waiting.give_up():
                raise TransientSinkError(SINK, "stopping; what is left waits for the next start")
        rejected = self._rejected.total(chunk)
        return Loaded(done.read - rejected, self._delivered.total(chunk), done.refused + rejected)

    def close(self) -> None:
        """Let go of the connection; safe to call twice."""
        self._receiver.stop()

    def _round(self, chunk: Chunk) -> _Round:
        """Send for a while, and record what came of it."""
        send = SendPlan(
            deliveries=self.deliveries.path,
            topic=TABLE_TOPIC,
            topic_id=NO_TOPIC,
            batch_id=chunk.name,
            ranges={},
            fence={},
            budget_seconds=BUDGET_SECONDS,
            cautious=self._receiver.gate.state is GateState.HALF_OPEN,
        )
        seen = Observation(f"{chunk.name} read")
        with spark_translated(SINK):
            due = self._due(chunk, seen)
            task = make_chunk_task(ChunkPlan(send, self._rate), self._options)
            rows = due.mapInArrow(task, from_arrow_schema(SCHEMA)).collect()
            (part,) = from_rows(row.asDict(recursive=True) for row in rows)
            self._record(chunk, part)
            return _Round(part, int(seen.get["versions"]), int(seen.get["refused"]))

    def _due(self, chunk: Chunk, seen: Observation) -> DataFrame:
        """The chunk without the events, or versions, that have an outcome: one task's work. In and out: CHANGES."""
        counted = {"versions": is_version(), "refused": F.col("kind") == str(Kind.DEAD_LETTER)}
        counts = [F.coalesce(F.count_if(rows), F.lit(0)).alias(name) for name, rows in counted.items()]
        changes = chunk.changes.frame().observe(seen, *counts)
        log = self.log(self.deliveries)
        held = self._held(chunk, log)
        if held is not None:
            changes = without(changes, held, chunk.key, log.most_rows("event_id", chunk.ids), self.broadcast_rows)
        if "version" not in chunk.key:
            return changes.coalesce(1)
        # Several versions of an event go out in their order, and once though the source has sent one twice.
        versions = changes.where(is_version()).dropDuplicates([*chunk.key])
        return versions.coalesce(1).sortWithinPartitions(*chunk.key)

    def _held(self, chunk: Chunk, log: DeltaLog) -> DataFrame | None:
        """Events, or versions, with an outcome where the chunk's would lie, by its key; None when there are none.

        Those that an earlier backfill was refused are none: they are tried again.
        """
        if chunk.ids and not log.may_hold("event_id", *chunk.ids):
            return None
        rows = self.deliveries.read(self._spark)
        if chunk.ids:  # each file tells its smallest and largest id: most are never opened
            rows = rows.where(F.col("event_id").between(*chunk.ids))
        of_stream, delivered = F.col("topic_id") != NO_TOPIC, F.col("status") == str(Status.DELIVERED)
        held = rows.where(delivered | of_stream | (F.col("batch_id") == chunk.name)).select(*chunk.key)
        return None if held.isEmpty() else held.distinct()

    def _record(self, chunk: Chunk, part: Part) -> None:
        """Store the outcomes of a round: dead letters first. Raises: TransientSinkError."""
        if part.rejected:
            ids = sorted({row["kafka_offset"] for row in part.rejected})
            now = self._waiting.clock()
            messages = table_messages(chunk.changes.frame().where(F.col("event_id").isin(ids)), now)
            one_each = {row["kafka_offset"]: row for row in part.rejected}
            letters = rejected_letters(messages, [*one_each.values()], chunk.name)
            add_letters(self._spark, self.dead_letters, letters, to_micros(now) // 1000, of_rows=True)
        if part.files:
            call_with_retry(partial(self._append, chunk.name, part), _COMMITS)
        act = str(uuid4())
        self._delivered.add(chunk, act, part.delivered)
        self._rejected.add(chunk, act, len(part.rejected))

    def _append(self, name: str, part: Part) -> None:
        self.log(self.deliveries).append_beside(part.files, name)
