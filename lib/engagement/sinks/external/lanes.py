"""The lanes of one Spark task: threads that send side by side, each in order, until all is sent or it makes no sense.

An event's versions are all in one lane. A lane that waits before another try holds up itself alone; when the receiver
itself is at fault all of them stop (trip.py), and the driver waits, which costs no slot of Spark's. A task ends in
bounded time whatever the receiver does.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from engagement.sinks.external.answers import Answer, Trouble, Verdict
from engagement.sinks.external.caller import document_of
from engagement.sinks.external.events import Event, RowVersion
from engagement.sinks.external.inbox import Inbox
from engagement.sinks.external.lane import (
    MOST_REQUEST_CHARACTERS,
    Halt,
    LaneWork,
    Outcome,
    Sending,
    results_of,
)
from engagement.sinks.external.trip import LONGEST_WAIT_SECONDS, Tally, Trip

_QUEUE_REQUESTS = 4
"""What a lane may have waiting: the reader waits beyond that, so memory stays bounded."""
_GRACE_SECONDS = 2.0


@dataclass(frozen=True)
class LanePlan:
    """How a task sends."""

    lanes: int
    batch_size: int
    """1: every event goes alone."""
    retry_attempts: int
    budget_seconds: float
    """After which no request is begun any more."""
    timeout_seconds: float
    """The longest that a request may take."""
    cautious: bool = False
    """See Trip."""


@dataclass(frozen=True)
class LaneWorld:
    """What the lanes take from outside."""

    post: Callable[[int, Sending], Answer]
    """Sends for a lane, which has a connection of its own."""
    monotonic: Callable[[], float]
    epoch_us: Callable[[], int]
    sleep: Callable[[float], object]
    jitter: Callable[[int], float]
    """Seconds to wait after the n-th failure in a row (1, 2 …)."""


@dataclass(frozen=True)
class LaneResult:
    """What the lanes leave behind."""

    outcomes: list[Outcome]
    left: list[RowVersion]
    halt: Halt | None
    """Why something is left; None when nothing is, or when only the time was up."""
    tally: Tally


class Lanes:
    """Takes events in order, sends them, says what became of each; threads begin with the first event."""

    def __init__(self, plan: LanePlan, world: LaneWorld) -> None:
        self._world = world
        self._trip = Trip(plan.cautious)
        self._threads = ThreadPoolExecutor(plan.lanes, thread_name_prefix="lane")
        deadline = world.monotonic() + plan.budget_seconds
        self._hung_after = deadline + plan.timeout_seconds + _GRACE_SECONDS
        self._lanes = [_Lane(number, plan, world, self._trip, deadline) for number in range(plan.lanes)]

    @property
    def stopped(self) -> bool:
        """Whether the receiver itself is at fault, so that nothing more is sent."""
        return self._trip.stopped

    def put(self, event: Event) -> None:
        """Give an event to its lane; waits while that has enough."""
        lane = self._lanes[event.version.event_id % len(self._lanes)]
        if lane.add(event):
            lane.hand_over(self._threads, self._hung_after)

    def finish(self) -> LaneResult:
        """Wait until every lane has ended; the events of one that hangs beyond its time count as left."""
        for lane in self._lanes:
            lane.hand_over(self._threads, self._hung_after)
        self.close()
        for lane in self._lanes:
            lane.join(self._hung_after)
        found = [(lane, list(lane.work.outcomes)) for lane in self._lanes]
        outcomes = [outcome for _, ended in found for outcome in ended]
        left = [version for lane, ended in found for version in lane.left(ended)]
        return LaneResult(outcomes, left, self._trip.halt if left else None, self._trip.tally)

    def close(self) -> None:
        """Tell every lane that nothing follows; safe to call twice."""
        for lane in self._lanes:
            lane.end()
        self._threads.shutdown(wait=False)


class _Lane:
    def __init__(self, number: int, plan: LanePlan, world: LaneWorld, trip: Trip, deadline: float) -> None:
        self._number = number
        self._plan = plan
        self._world = world
        self._trip = trip
        self._deadline = deadline
        self._inbox = Inbox(_QUEUE_REQUESTS)
        self._over = threading.Event()
        self._running: Future[None] | None = None
        self._piece: list[Event] = []
        self._characters = 0
        self._taken: list[RowVersion] = []
        """Every event that it was given."""
        self.work = LaneWork(plan.batch_size)

    def add(self, event: Event) -> bool:
        """Whether this makes a request's worth, to be handed over."""
        self._taken.append(event.version)
        self._piece.append(event)
        self._characters += len(event.body)
        return len(self._piece) >= self._plan.batch_size or self._characters >= MOST_REQUEST_CHARACTERS

    def hand_over(self, threads: ThreadPoolExecutor, given_up_at: float) -> None:
        piece, self._piece, self._characters = self._piece, [], 0
        if not piece:
            return
        if self._running is None:
            self._running = threads.submit(self._run)
        if not self._inbox.put(piece, lambda: self._over.is_set() or self._world.monotonic() > given_up_at):
            self._give_up()

    def left(self, ended: Sequence[Outcome]) -> list[RowVersion]:
        """What it was given and is not among these."""
        if len(ended) == len(self._taken):
            return []
        there = {_name(outcome.version) for outcome in ended}
        return [version for version in self._taken if _name(version) not in there]

    def end(self) -> None:
        self._inbox.end()

    def join(self, given_up_at: float) -> None:
        if self._running is None:
            return
        try:
            self._running.result(max(0.0, given_up_at - self._world.monotonic()))
        except TimeoutError:
            self._give_up()

    def _give_up(self) -> None:
        """It has ended, or hangs in a request, which is a failure; what it was given and has no outcome is left."""
        if not self._over.is_set():
            self._over.set()
            self._trip.failed(Halt(str(Trouble.TIMEOUT)))

    def _run(self) -> None:
        try:
            while events := self._inbox.take():
                self.work.add(events)
                if not self._send():
                    return
        finally:
            self._over.set()

    def _send(self) -> bool:
        """Send what the work holds; false when this lane is to stop."""
        failures = 0
        while (sending := self.work.next()) is not None:
            if not self._may_go():
                return False
            halt = self._attempt(sending)
            if halt is None:
                failures = 0
                continue
            failures += 1
            wait = max(self._world.jitter(failures), halt.retry_after_seconds or 0.0)
            too_long = wait > LONGEST_WAIT_SECONDS or self._is_late(wait)
            if failures > self._plan.retry_attempts or too_long or self._trip.stopped:
                return False
            self._trip.retries()
            self._world.sleep(wait)
        return True

    def _may_go(self) -> bool:
        while not self._is_late(0.0) and not self._over.is_set():
            if self._trip.may_go():
                return True
            if self._trip.stopped:
                return False
            self._trip.wait()
        return False

    def _attempt(self, sending: Sending) -> Halt | None:
        sent_us = self._world.epoch_us()
        answer = self._world.post(self._number, sending)
        if self._over.is_set():
            return Halt("it took too long")  # nobody waits for this lane any more
        try:
            results = results_of(document_of(answer)) if sending.is_batch and answer.verdict is Verdict.DONE else None
        except ValueError:
            self.work.split()  # what became of each, only asking for each will tell
            self._trip.succeeded()
            return None
        halt = self.work.answered(answer, results, sent_us, self._world.epoch_us())
        if halt is None:
            self._trip.succeeded(refused=answer.verdict is Verdict.REFUSED)
        else:
            self._trip.failed(halt)
        return halt

    def _is_late(self, wait: float) -> bool:
        return self._world.monotonic() + wait >= self._deadline


def _name(version: RowVersion) -> tuple[int, int, str]:
    """What tells a version from others: the source may send one again at another place; a backfill's have no place."""
    return version.partition, version.offset, version.key
