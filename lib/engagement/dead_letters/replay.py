"""Sending letters again: through the transform's own checks, to the destination that lacks them, then noted.

Guarantee: one effect per letter. Where a crash can fall, and why the next run repairs it:

* before a destination's `send` has returned: it holds all of these messages or none (see topic.py), and knows which.
* between the effect and its mark in the table: the letters look new, but `sent_before` knows them and they are marked.
* after the mark: they are no longer selected.

A topic that was deleted and made again gives a place to another message, so a letter is known by its Kafka time too.
"""

import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from engagement.dead_letters.letter import DISCARDED, NEW, REPLAYED, Action, FullLetter, LetterId, Place
from engagement.dead_letters.selection import TRANSFORM, Selection
from engagement.dead_letters.table import LetterTable
from engagement.errors import ConfigError
from engagement.schemas import DeadLetterCode
from engagement.transform.envelope import Headers, Outcome, read_message
from engagement.transform.instant import to_micros
from engagement.transform.json_text import RECURSION_LIMIT, JsonReader, Refusal

SLICE_LETTERS, SLICE_BYTES = 2_000, 32 * 1024 * 1024
"""What is read and sent at once: the bound of the memory that a replay takes."""
MARK_LETTERS = 20_000
"""Letters that are marked at once: each time rewrites the files that they lie in."""
ADDRESSES = {TRANSFORM: "KAFKA_BOOTSTRAP_SERVERS", "external": "EXTERNAL_SYSTEM_URL and DATABASE_URL"}
"""What must be set before letters can go where they were refused."""
WAREHOUSE = "warehouse"
"""Its letters have no way in of their own: a backfill brings the rows, so they hold up no others."""


@dataclass(frozen=True)
class Replay:
    """A letter on its way: the message that stands for it, which the transform takes."""

    letter: FullLetter
    value: bytes
    outcome: Outcome

    @property
    def place(self) -> Place:
        """The letter's."""
        return self.letter.place

    @property
    def id(self) -> LetterId:
        """The letter's."""
        return self.place.id

    @property
    def content_id(self) -> str | None:
        """The message's key."""
        return self.outcome.effects[0].image.content_id


class Destination(Protocol):
    """Where letters of one kind go; every method raises TransientError and PermanentError."""

    @property
    def unmarked_letters(self) -> int:
        """Letters it may take before the table must know: so many may go out again after a crash, with their keys."""
        ...

    def takes(self, letter: LetterId) -> bool:
        """Whether the letter is of the topic that it serves."""
        ...

    def sent_before(self, places: Sequence[Place]) -> Mapping[Place, str]:
        """Those of these letters that it has taken already, with what is known of that; asked before any `send`."""
        ...

    def send(self, replays: Sequence[Replay]) -> Iterator[tuple[Place, str]]:
        """Send; gives each letter that was taken, with where it went. What it leaves out was refused again."""
        ...


@dataclass
class Tally:
    """How far a run is."""

    selected: int
    dry_run: bool = False
    sent: int = 0
    sent_before: int = 0
    """Taken by a destination in a run that ended before it could note that."""
    elsewhere: int = 0
    """Letters of another topic, or of rows that backfill has read; they stay as they are."""
    by_warehouse: int = 0
    """Letters that the warehouse refused; they stay as they are."""
    refused: Counter[str] = field(default_factory=Counter)
    """Letters that would be refused again, by code; they stay as they are."""

    @property
    def is_complete(self) -> bool:
        """Whether no letter stays."""
        return not (self.refused or self.elsewhere or self.by_warehouse)

    def __str__(self) -> str:
        verb = "would be sent" if self.dry_run else "sent"
        parts = [f"{self.sent:,} of {self.selected:,} {verb} again"]
        if self.sent_before:
            parts.append(f"{self.sent_before:,} had been sent before and are noted now")
        if self.elsewhere:
            why = "of a table's rows: `backfill` reads them again"
            parts.append(f"{self.elsewhere:,} are of another topic and stay ({why})")
        if self.by_warehouse:
            why = "`backfill --sinks warehouse` brings a new row, `reconcile --repair` a newer version of one"
            parts.append(f"{self.by_warehouse:,} were refused by the warehouse and stay ({why})")
        if self.refused:
            codes = ", ".join(f"{code} {count:,}" for code, count in self.refused.most_common())
            parts.append(f"{sum(self.refused.values()):,} would be refused again and stay as they are ({codes})")
        return "; ".join(parts)


def judge(reader: JsonReader, letter: FullLetter, value: bytes, now: datetime) -> Replay | Refusal:
    """What the transform would make of `value` in the letter's place, if it came now."""
    sys.setrecursionlimit(max(sys.getrecursionlimit(), RECURSION_LIMIT))
    now_us = to_micros(now)
    place = letter.stands_at
    outcome = read_message(reader, value, place, now_us, Headers(letter.header_names, place))
    return outcome.refusal or Replay(letter, value, outcome)


class Replayer:
    """One run; `report` is told how far it is after every slice."""

    def __init__(
        self,
        table: LetterTable,
        destinations: Mapping[str, Destination],
        who: str,
        clock: Callable[[], datetime],
        report: Callable[[Tally], None],
    ) -> None:
        """`destinations` by the name of the sink that refused, TRANSFORM for those that no sink did."""
        self._table = table
        self._destinations = destinations
        self._who = who
        self._clock = clock
        self._report = report
        self._reader = JsonReader()
        self._unmarked: dict[Place, Action] = {}

    def run(self, selection: Selection, payload: bytes | None = None, *, dry_run: bool = False) -> Tally:
        """Send what is selected; `payload` stands for the message of the one letter that is.

        Raises: ConfigError for letters that nothing here can send; TransientError, PermanentError.
        """
        places = self._table.places(selection)
        sendable = [place for place in places if place.sink != WAREHOUSE]
        self._check(sendable)
        tally = Tally(len(places), dry_run, by_warehouse=len(places) - len(sendable))
        try:
            for sink in dict.fromkeys(place.sink or TRANSFORM for place in sendable):
                of_sink = [place for place in sendable if (place.sink or TRANSFORM) == sink]
                self._replay(sink, of_sink, selection, payload, tally)
        finally:
            self._mark()
        return tally

    def settle(self, selection: Selection) -> int:
        """Mark the letters that a destination has and the table does not know of yet; returns how many."""
        places = self._table.places(selection)
        for sink in {place.sink or TRANSFORM for place in places} & self._destinations.keys():
            of_sink = [place for place in places if (place.sink or TRANSFORM) == sink]
            self._note(self._destinations[sink].sent_before(of_sink))
        return self._mark()

    def _check(self, places: Sequence[Place]) -> None:
        unknown = sorted({place.sink or TRANSFORM for place in places} - self._destinations.keys())
        if unknown:
            raise ConfigError([f"letters refused by {name} cannot be sent again: {_needs(name)}" for name in unknown])

    def _replay(
        self, sink: str, places: Sequence[Place], selection: Selection, payload: bytes | None, tally: Tally
    ) -> None:
        destination = self._destinations[sink]
        known: Mapping[Place, str] = {} if tally.dry_run else destination.sent_before(places)
        self._note(known)
        tally.sent_before += len(known)
        taken = [place for place in places if destination.takes(place.id)]
        tally.elsewhere += len(places) - len(taken)
        corrected = "" if payload is None else f", corrected: sha256 {hashlib.sha256(payload).hexdigest()}"
        most = min(destination.unmarked_letters, SLICE_LETTERS)
        for part in slices([place for place in taken if place not in known], most):
            ready = self._ready(self._table.messages(part, selection), payload, tally)
            if tally.dry_run:
                tally.sent += len(ready)
            else:
                self._send(destination, ready, corrected, tally)
            self._report(tally)

    def _send(self, destination: Destination, ready: Sequence[Replay], corrected: str, tally: Tally) -> None:
        before = tally.sent
        for place, how in destination.send(ready):
            tally.sent += 1
            self._note({place: f"{how}{corrected}"})
        if left_out := len(ready) - (tally.sent - before):
            tally.refused[str(DeadLetterCode.E_HTTP_REJECT)] += left_out
        if len(self._unmarked) >= destination.unmarked_letters:
            self._mark()

    def _ready(self, letters: Sequence[FullLetter], payload: bytes | None, tally: Tally) -> list[Replay]:
        judged = [
            judge(self._reader, letter, letter.value if payload is None else payload, self._clock())
            for letter in letters
        ]
        tally.refused.update(str(found.code) for found in judged if isinstance(found, Refusal))
        return [found for found in judged if isinstance(found, Replay)]

    def _note(self, taken: Mapping[Place, str]) -> None:
        now = self._clock()
        self._unmarked |= {place: Action(now, self._who, REPLAYED, how) for place, how in taken.items()}

    def _mark(self) -> int:
        """Also a letter that was discarded meanwhile: that it was sent is a fact."""
        marks, self._unmarked = self._unmarked, {}
        return self._table.mark(marks, REPLAYED, leaving=(NEW, DISCARDED))


def _needs(sink: str) -> str:
    settings = ADDRESSES.get(sink)
    return f"set {settings}" if settings else "nothing here knows how"


def slices(places: Sequence[Place], most: int = SLICE_LETTERS) -> Iterator[list[Place]]:
    """Cut into pieces of bounded number and size; a message that is larger by itself makes a piece of its own."""
    part: list[Place] = []
    size = 0
    for place in places:
        if part and (len(part) >= most or size + place.size > SLICE_BYTES):
            yield part
            part, size = [], 0
        part.append(place)
        size += place.size
    if part:
        yield part
