"""What one lane has to send, and what follows from each answer: a state machine without clock, network or threads.

A lane sends one request after the other, and the versions of an event are all in one lane, so they arrive in order: a
request never holds two of them, and the next one goes out only when the one before has its outcome.
"""

import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from engagement.sinks.external.answers import Answer, Verdict, verdict_of
from engagement.sinks.external.events import Event, RowVersion, batch_body
from engagement.sinks.external.keys import batch_key

MOST_REQUEST_CHARACTERS = 1_048_576
"""A request is closed before it grows beyond; a single larger event goes alone."""
_DIGITS = re.compile(r"[0-9]{1,9}")


class Status(StrEnum):
    """How an event ended, in the table of deliveries."""

    DELIVERED = "delivered"
    REJECTED = "rejected"


@dataclass(slots=True)
class Tried:
    """An event that is not through, with its tries; times are microseconds since 1970."""

    event: Event
    attempts: int = 0
    first_us: int = 0
    last_us: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """An event's end; its body is let go of."""

    version: RowVersion
    status: Status
    http_status: int
    request_key: str
    """Idempotency key of the request that brought the answer."""
    attempts: int
    first_us: int
    last_us: int


@dataclass(frozen=True, slots=True)
class Sending:
    """One request."""

    items: list[Tried]
    key: str
    body: str
    is_batch: bool


@dataclass(frozen=True)
class Halt:
    """Why a lane does not go on: `pause` until a person has done something, or a wait before the same request again."""

    reason: str
    pause: bool = False
    retry_after_seconds: float | None = None

    @property
    def gravity(self) -> tuple[bool, float]:
        """What decides, of several."""
        return self.pause, self.retry_after_seconds or 0.0


@dataclass
class LaneWork:
    """A lane's requests, in order; `outcomes` grows as answers come."""

    batch_size: int
    """1: every event goes alone."""
    outcomes: list[Outcome] = field(default_factory=list)
    _pieces: deque[list[Tried]] = field(default_factory=deque)

    def add(self, events: Iterable[Event]) -> None:
        """Append events, cut into requests."""
        self._pieces.extend(_cut([Tried(event) for event in events], self.batch_size))

    def next(self) -> Sending | None:
        """The request to send now; the same one until it is answered."""
        if not self._pieces:
            return None
        items = self._pieces[0]
        if len(items) == 1:
            event = items[0].event
            return Sending(items, event.version.key, event.body, is_batch=False)
        key = batch_key([item.event.version.key for item in items])
        return Sending(items, key, batch_body([item.event.body for item in items], key), is_batch=True)

    def answered(
        self, answer: Answer, results: Mapping[int, int] | None, sent_us: int, answered_us: int
    ) -> Halt | None:
        """Take the answer to the request that `next` gave; a Halt when what is left has to wait.

        `results` are the statuses of a batch's events by index; None when the answer names none: all are accepted. An
        event that they leave out is sent again by itself: the same batch would bring the same answer.
        """
        sending = self.next()
        if sending is None:
            raise ValueError("nothing was sent")
        for item in sending.items:
            item.attempts += 1
            item.first_us = item.first_us or sent_us
            item.last_us = answered_us
        match answer.verdict:
            case Verdict.DONE:
                return self._done(sending, answer, results)
            case Verdict.REFUSED:
                self._refused(sending, answer)
                return None
            case Verdict.RETRY:
                return Halt(answer.told, retry_after_seconds=answer.retry_after_seconds)
            case Verdict.PAUSE:
                return Halt(answer.told, pause=True)

    def split(self) -> None:
        """Send the front request's events one by one: the answer to the batch could not be read."""
        items = self._pieces.popleft()
        self._pieces.extendleft([item] for item in reversed(items))

    def _done(self, sending: Sending, answer: Answer, results: Mapping[int, int] | None) -> Halt | None:
        self._pieces.popleft()
        told = results if sending.is_batch and results is not None else None
        again: list[Tried] = []
        unsaid: list[Tried] = []
        halt: Halt | None = None
        for index, item in enumerate(sending.items):
            status = answer.status or 0 if told is None else told.get(index)
            if status is None:
                unsaid.append(item)
                continue
            verdict = verdict_of(status)
            if verdict is Verdict.DONE or verdict is Verdict.REFUSED:
                self._end(item, verdict, status, sending.key)
                continue
            again.append(item)
            pauses = verdict is Verdict.PAUSE or (halt is not None and halt.pause)
            halt = Halt(f"it answered {status} for an event of a batch", pauses, answer.retry_after_seconds)
        self._pieces.extendleft([item] for item in reversed(unsaid))
        if again:
            self._pieces.appendleft(again)
        return halt

    def _refused(self, sending: Sending, answer: Answer) -> None:
        self._pieces.popleft()
        if len(sending.items) == 1:
            self._end(sending.items[0], Verdict.REFUSED, answer.status or 0, sending.key)
            return
        half = len(sending.items) // 2
        self._pieces.extendleft([sending.items[half:], sending.items[:half]])

    def _end(self, item: Tried, verdict: Verdict, http_status: int, request_key: str) -> None:
        status = Status.DELIVERED if verdict is Verdict.DONE else Status.REJECTED
        told = (item.attempts, item.first_us, item.last_us)
        self.outcomes.append(Outcome(item.event.version, status, http_status, request_key, *told))


def _cut(items: Sequence[Tried], batch_size: int) -> Iterable[list[Tried]]:
    """Requests of bounded size that hold each event once."""
    piece: list[Tried] = []
    ids: set[int] = set()
    characters = 0
    for item in items:
        size = len(item.event.body)
        full = len(piece) >= batch_size or characters + size > MOST_REQUEST_CHARACTERS
        if piece and (full or item.event.version.event_id in ids):
            yield piece
            piece, ids, characters = [], set(), 0
        piece.append(item)
        ids.add(item.event.version.event_id)
        characters += size
    if piece:
        yield piece


def results_of(document: object) -> Mapping[int, int] | None:
    """Statuses by index out of a batch's answer; None when it lists none. Entries of another shape are left out.

    >>> results_of({"results": [{"index": 0, "status": 200}, {"index": 1, "status": "422", "error": "x"}, 7]})
    {0: 200, 1: 422}
    """
    match document:
        case {"results": list(entries)} if entries:
            return dict(found for entry in entries if (found := _result(entry)) is not None)
        case _:
            return None


def _result(entry: object) -> tuple[int, int] | None:
    match entry:
        case {"index": index, "status": status}:
            place, told = _number(index), _number(status)
            return None if place is None or told is None else (place, told)
        case _:
            return None


def _number(value: object) -> int | None:
    """A whole number, or a text that is one: some receivers' libraries write numbers so."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
