"""The warehouse sink: a micro-batch's rows lie in pending streams until one commit shows them all.

Guarantee: every row version once. Where a crash can fall, and why the replay repairs it:

* while tasks write: streams that nobody names; they are never committed, and the replay writes everything anew.
* from the fence's claim to the note that it is done: see protocol.py; whoever reads the fence next settles the claim.
* after that: the fence stands at the end of the ranges, and the replay finds its rows below it.

Messages that the transform refuses are counted here and stored by the lake; a row that BigQuery itself refuses becomes
a dead letter of this sink's, and the others go on. Two drivers: see protocol.py. Time bound: one trigger and one
micro-batch; readers see a commit whole or not at all.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol
from uuid import uuid4

from pyspark.sql import DataFrame

from engagement.errors import TransientSinkError
from engagement.identity import BatchIdentity, Fence, OffsetRange, spans
from engagement.sinks.base import CommitTimes, PartitionSummary, check_topic
from engagement.sinks.bigquery.client import WarehouseOptions
from engagement.sinks.bigquery.faults import SINK
from engagement.sinks.bigquery.fence import FenceRow, Written
from engagement.sinks.bigquery.ledger import BigQueryLedger
from engagement.sinks.bigquery.protocol import FenceKeeper, Ledger
from engagement.sinks.bigquery.rest import Rest
from engagement.sinks.bigquery.summary import SUMMARY_SCHEMA, TaskSummary, from_rows
from engagement.sinks.bigquery.tables import WarehouseTables
from engagement.sinks.bigquery.writer import WritePlan, make_task
from engagement.sinks.outcomes import sum_up
from engagement.sinks.source_log import last_places, may_repeat
from engagement.sinks.spark_faults import spark_translated
from engagement.transform.changes import Changes
from engagement.transform.instant import to_micros


class Letters(Protocol):
    """Where rows go that BigQuery does not take."""

    def add(self, messages: DataFrame, refused: Sequence[Mapping[str, Any]], identity: BatchIdentity) -> None:
        """Store each once, however often it is given. Raises: TransientSinkError."""
        ...


class WarehouseSink:
    """Appends to `enriched_events`; opens nothing before `open`."""

    name = SINK
    content_first = True
    backfill_mends = True

    def __init__(
        self,
        options: WarehouseOptions,
        topic_id: Callable[[], str],
        visible: Callable[[Sequence[CommitTimes]], None],
        clock: Callable[[], datetime],
        letters: Letters,
    ) -> None:
        """`letters` takes what BigQuery refuses."""
        self._options = options
        self._ask_topic_id = topic_id
        self._topic_id = ""
        self._visible = visible
        self._clock = clock
        self._letters = letters
        self._rest = Rest(options)
        self._keeper: FenceKeeper | None = None
        self.ledger: Callable[[Rest, WarehouseOptions], Ledger] = BigQueryLedger
        """How the fence and commits are reached; a test puts its faults between."""
        self._known: FenceRow | None = None
        """The fence as last read or moved; a step from it is refused if it has become another one since."""

    def open(self) -> None:
        """Make dataset, tables and views, or check those that are there. Raises: TransientError, PermanentSinkError."""
        self.close()
        self._topic_id = self._ask_topic_id()
        WarehouseTables(self._rest, self._options).prepare()
        self._keeper = FenceKeeper(self.ledger(self._rest, self._options), self._topic_id, lambda: uuid4().hex)

    def fence(self) -> Fence:
        """Next offset per partition, once it is certain. Raises: TransientSinkError; GapError once it is gone."""
        self._known = self._opened().settled()
        return self._known.next_offsets

    def deliver(
        self,
        changes: Changes,
        ranges: Sequence[OffsetRange],
        identity: BatchIdentity,
        *,
        final: bool,  # noqa: ARG002 always true, by content_first
    ) -> list[PartitionSummary]:
        """Write what the table lacks of these ranges.

        Raises: TransientSinkError, also when another driver wrote meanwhile; GapError; PermanentSinkError.
        """
        keeper = self._opened()
        before, self._known = self._known or keeper.settled(), None
        if before.missing(ranges):
            raise TransientSinkError(SINK, "its fence lies before the rows on offer; what is between comes first")
        processed_us = to_micros(self._clock())
        plan = WritePlan(spans(ranges), before.next_offsets, processed_us)
        tasks = self._write(changes, plan)
        log_spans = [(task.summary.partition, task.span) for task in tasks]
        if may_repeat(log_spans, before.places):
            # The source went back, or a dead letter is sent again: anew, and asking. The first streams are never named.
            # In one task: an event without a content has no key, so both copies may be here, in two partitions.
            asking = replace(plan, versions_there=self._rest.text("versions_there"))
            tasks = self._write(changes.in_one_task(), asking)
        check_topic(SINK, self._topic_id, self._ask_topic_id)
        refused = [row for task in tasks for row in task.refused]
        if refused:
            # Before the fence moves: a crash in between adds the same letters again, and none twice.
            self._letters.add(changes.messages, refused, identity)
        after = before.after(ranges)
        # Without a step there is no row to add, and the claim would be one of nothing.
        if after != before.next_offsets:
            before = keeper.move(before, after, _written(tasks, processed_us, identity), last_places(log_spans))
        self._known = before
        summaries = _summaries(tasks, ranges)
        self._visible([summary.commit_times_ms for summary in summaries])
        return summaries

    def close(self) -> None:
        """Let go of the connection; safe to call twice."""
        self._keeper = self._known = None
        self._rest.close()

    def _write(self, changes: Changes, plan: WritePlan) -> list[TaskSummary]:
        with spark_translated(SINK):
            rows = changes.each_partition(make_task(plan, self._options), SUMMARY_SCHEMA).collect()
        tasks = from_rows(row.asDict() for row in rows)
        for task in tasks:
            task.raise_problem()
        return tasks

    def _opened(self) -> FenceKeeper:
        if self._keeper is None:
            raise TransientSinkError(SINK, "is not open")
        return self._keeper


def _written(tasks: Sequence[TaskSummary], processed_us: int, identity: BatchIdentity) -> Written:
    streams = tuple(sorted({task.stream for task in tasks if task.stream}))
    times = [us for task in tasks for us in (task.event_from_us, task.event_to_us) if us is not None]
    return Written(streams, processed_us, min(times, default=None), max(times, default=None), str(identity))


def _summaries(tasks: Sequence[TaskSummary], ranges: Sequence[OffsetRange]) -> list[PartitionSummary]:
    """What the engine wants to know; a range whose offsets hold no rows (transaction markers) had no task."""
    return [sum_up([task.summary for task in tasks], part) for part in ranges]
