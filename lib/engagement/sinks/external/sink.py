"""The external sink: every row version is posted to a receiver, and its outcome recorded in one Delta commit a round.

Guarantee: at least once, with a key that stays the same for ever; a receiver that honours it sees each version once. An
event that the receiver refuses becomes one dead letter; nothing else is ever given up. The versions of an event go out
in their order, also where it moved from one Kafka partition to another (moved.py). Where a crash can fall, and why the
replay repairs it:

* before or between requests, or after an answer: what was acknowledged and is not in the table yet is sent again, with
  the same keys. That is at most one micro-batch, and of a long one at most what one round sends (BUDGET_SECONDS).
* between the dead letters and the commit: letters are known by place and time in Kafka, so the replay adds none twice.
* after the commit: it carries the fence, and the rows beyond it that are done; the replay sends none of them.

Two drivers: both may send, with the same keys; one commit passes (delta/fence.py), the other driver goes on from it.
Time bound: a round ends BUDGET_SECONDS and one request's limit after its begin, whatever the receiver does; while that
is away or refuses us, nothing runs in Spark, and the micro-batch waits here, on the driver.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema

from engagement.errors import TransientSinkError
from engagement.identity import BatchIdentity, Fence, OffsetRange, spans
from engagement.sinks.base import CommitTimes, PartitionSummary
from engagement.sinks.external.gate import GateState
from engagement.sinks.external.lane import Halt
from engagement.sinks.external.ledger import DeliveryLedger, Standing, done_beyond
from engagement.sinks.external.moved import Elsewhere, make_moved_task, reunite
from engagement.sinks.external.options import SINK, ExternalOptions
from engagement.sinks.external.outcomes import SCHEMA, Part, from_rows, sum_up, tally_of
from engagement.sinks.external.receiver import GateObserver, Receiver, Waiting
from engagement.sinks.external.task import SendPlan, make_task
from engagement.sinks.external.trip import Tally
from engagement.sinks.spark_faults import spark_translated
from engagement.transform.changes import Changes

BUDGET_SECONDS = 10.0
"""A round of requests: what it has not begun by then comes in the next, after its outcomes are in the table."""


class Observer(GateObserver, Protocol):
    """Told what happens; it must not raise."""

    def visible(self, times: Sequence[CommitTimes]) -> None:
        """Rows with these commit times were acknowledged just now."""
        ...


class ExternalSink:
    """Posts row versions, appends to `deliveries`, adds what is new to `dead_letters`; opens nothing before `open`."""

    name = SINK
    content_first = True
    backfill_mends = False

    def __init__(
        self,
        options: ExternalOptions,
        ledger: DeliveryLedger,
        topic_id: Callable[[], str],
        elsewhere: Elsewhere,
        observer: Observer,
        waiting: Waiting,
    ) -> None:
        self._options = options
        self._ledger = ledger
        self._topic_id = topic_id
        self._elsewhere = elsewhere
        self._observer = observer
        self._waiting = waiting
        self._receiver = Receiver(options, waiting, observer)
        self._beyond: Mapping[int, pa.Array] = {}
        """What the newest round found done beyond its micro-batch."""
        self.sent: Callable[[Tally], None] = lambda _: None
        """Told what each round sent; set by whoever measures it."""

    @property
    def gate_state(self) -> GateState:
        """What the circuit breaker lets through now."""
        return self._receiver.gate.state

    def open(self) -> None:
        """Make the tables, or check those that are there, and begin the heartbeat.

        A receiver that is away hinders nothing here: what is to be sent waits for it. Raises: TransientError,
        PermanentSinkError.
        """
        self._ledger.open(self._topic_id())
        self._receiver.start()

    def fence(self) -> Fence:
        """Next offset per partition, from the newest commit that carries them. Raises: TransientSinkError."""
        return self._ledger.read(beyond={}).fence.next_offsets

    def deliver(
        self,
        changes: Changes,
        ranges: Sequence[OffsetRange],
        identity: BatchIdentity,
        *,
        final: bool,  # noqa: ARG002 always true, by content_first
    ) -> list[PartitionSummary]:
        """Send what was not acknowledged of these ranges; returns when each row version has its outcome.

        Raises: TransientSinkError when another driver wrote meanwhile, and once the job is told to stop.
        """
        rounds: list[list[Part]] = []
        while not rounds or any(part.unsent for part in rounds[-1]):
            rounds.append(self._patient_round(partial(self._round, changes, ranges, identity), going_on=bool(rounds)))
        held = [row for part in rounds[-1] for row in part.held]
        beyond: Mapping[int, pa.Array] | None = self._beyond
        while any(part.left for part in rounds[-1]):
            send = partial(self._moved_round, changes, ranges, identity, held, beyond)
            rounds.append(self._patient_round(send, going_on=True))
            beyond = None
        return [sum_up(rounds, part) for part in ranges]

    def close(self) -> None:
        """End the heartbeat; safe to call twice."""
        self._receiver.stop()

    def _patient_round(self, send: Callable[[], list[Part]], *, going_on: bool) -> list[Part]:
        """One round, once the receiver takes something; told to whoever wants to know."""
        if going_on and self._waiting.give_up():
            raise TransientSinkError(SINK, "stopping; what is left waits for the next start")
        self._receiver.await_passable()
        try:
            parts = send()
        except TransientSinkError:
            # Sent again before long, over and over, it would flood the receiver with what it has.
            self._receiver.failed(Halt("what it answered could not be recorded"))
            raise
        self.sent(tally_of(parts))
        self._observer.visible([part.commit_times_ms for part in parts])
        self._receiver.judge(parts)
        return parts

    def _round(self, changes: Changes, ranges: Sequence[OffsetRange], identity: BatchIdentity) -> list[Part]:
        """Send for a while, and record what came of it; what has moved is left."""
        before = self._ledger.read()
        self._beyond = done_beyond(before, ranges, ())
        with spark_translated(SINK):
            task = make_task(self._plan(before, ranges, identity), self._options)
            parts = _parts(changes.each_partition(task, SCHEMA))
        self._ledger.record(before, changes.messages, parts, ranges, identity)
        return parts

    def _moved_round(
        self,
        changes: Changes,
        ranges: Sequence[OffsetRange],
        identity: BatchIdentity,
        held: Sequence[Mapping[str, Any]],
        beyond: Mapping[int, pa.Array] | None,
    ) -> list[Part]:
        """The same for what was held back, in the order of the versions, after what is older elsewhere.

        Of what was held back nothing is done at first; `beyond` tells what of the rest is.
        """
        before = self._ledger.read(beyond=beyond)
        with spark_translated(SINK):
            together = reunite(changes, ranges, before.fence.next_offsets, held, self._elsewhere)
            task = make_moved_task(self._plan(before, ranges, identity), self._options)
            parts = _parts(together.versions.mapInArrow(task, from_arrow_schema(SCHEMA)))
        self._ledger.record(before, together.messages, parts, ranges, identity)
        return parts

    def _plan(self, before: Standing, ranges: Sequence[OffsetRange], identity: BatchIdentity) -> SendPlan:
        return SendPlan(
            deliveries=self._ledger.deliveries.path,
            topic=ranges[0].topic,
            topic_id=self._ledger.topic_id,
            batch_id=str(identity),
            ranges=spans(ranges),
            fence=before.fence.next_offsets,
            done=before.done,
            budget_seconds=BUDGET_SECONDS,
            cautious=self._receiver.gate.state is GateState.HALF_OPEN,
        )


def _parts(answers: DataFrame) -> list[Part]:
    return from_rows(row.asDict(recursive=True) for row in answers.collect())
