"""The warehouse's fence as values, and what is decided about it. Pure.

A commit of streams and a row of a table cannot move in one act in BigQuery. So a micro-batch first claims its step in
the fence's row, naming the streams that belong to it, then commits these, then says that it is done. Whoever finds a
claim that is not done (`judge`) settles it before anything else is written.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from engagement.errors import ContractError
from engagement.identity import Fence, OffsetRange
from engagement.sinks.source_log import Place

SETTLING_SECONDS = 60.0
"""How long a commit that BigQuery refuses may still be on its way through another driver's hands."""


@dataclass(frozen=True)
class Written:
    """Rows that lie in finalized streams and that nobody can read yet."""

    streams: tuple[str, ...] = ()
    processed_us: int = 0
    """Microseconds since 1970 that all these rows carry, and no others of their offsets: how they are recognized."""
    event_from_us: int | None = None
    """Earliest event, None when no row has a time: where in the table they would lie."""
    event_to_us: int | None = None
    batch: str = ""
    """The micro-batch, for people."""


@dataclass(frozen=True)
class Claim:
    """A step of the fence that was begun, and whose end nobody has noted yet."""

    former: Fence
    """The fence before it."""
    written: Written
    age_seconds: float = 0.0
    """By BigQuery's clock."""


@dataclass(frozen=True)
class FenceRow:
    """What the fence's table holds of one topic; `topic_id` changes when a topic is deleted and made again."""

    topic_id: str
    next_offsets: Fence
    token: str
    """Changes with every step, so that a step is taken from exactly the state that was read."""
    claim: Claim | None = None
    places: Mapping[int, Place] = field(default_factory=dict)
    """Partition -> the farthest place in the source's log whose changes were claimed for the table."""

    def after(self, ranges: Sequence[OffsetRange]) -> dict[int, int]:
        """Next offsets once these ranges are in the table; they never go back.

        >>> FenceRow("t", {0: 7}, "a").after([OffsetRange("events", 0, 5, 6), OffsetRange("events", 1, 0, 3)])
        {0: 7, 1: 3}
        """
        offsets = dict(self.next_offsets)
        for part in ranges:
            offsets[part.partition] = max(part.end, offsets.get(part.partition, 0))
        return offsets

    @property
    def step(self) -> list[tuple[int, int, int]]:
        """What a claim is about: partition, first offset, one past the last.

        >>> FenceRow("t", {0: 7, 1: 4}, "a", Claim({0: 5, 1: 4}, Written())).step
        [(0, 5, 7)]
        """
        former = self.claim.former if self.claim else self.next_offsets
        steps = ((partition, former.get(partition, 0), end) for partition, end in sorted(self.next_offsets.items()))
        return [(partition, first, end) for partition, first, end in steps if first < end]

    def farthest(self, reached: Mapping[int, Place]) -> dict[int, Place]:
        """Places once changes up to these are in the table; they never go back.

        >>> FenceRow("t", {}, "a", None, {0: (5, 6)}).farthest({0: (5, 5), 1: (2, 2)})
        {0: (5, 6), 1: (2, 2)}
        """
        return {**self.places, **{p: max(place, self.places.get(p, place)) for p, place in reached.items()}}

    def missing(self, ranges: Sequence[OffsetRange]) -> list[OffsetRange]:
        """Ranges that begin beyond the fence: to write them would leave a gap behind."""
        return [part for part in ranges if self.next_offsets.get(part.partition, part.start) < part.start]


class Answer(Enum):
    """What BigQuery says when it is told to commit streams."""

    DONE = auto()
    GONE = auto()
    """It knows one of them no more: they cannot be committed, but may have been."""
    REFUSED = auto()
    """They are in no state for it: committed before, being committed now, or spoilt."""
    UNCLEAR = auto()


class Verdict(Enum):
    """What becomes of a claim."""

    FINISH = auto()
    UNDO = auto()
    WAIT = auto()


def judge(answer: Answer, *, landed: bool, age_seconds: float) -> Verdict:
    """Decide about a claim, by what its commit was answered and whether the table held its rows after that.

    A claim is undone only when its rows are not there and nobody can bring them any more.

    >>> judge(Answer.GONE, landed=False, age_seconds=1.0)
    <Verdict.UNDO: 2>
    """
    if landed or answer is Answer.DONE:
        return Verdict.FINISH
    if answer is Answer.GONE or (answer is Answer.REFUSED and age_seconds >= SETTLING_SECONDS):
        return Verdict.UNDO
    return Verdict.WAIT


def start_of(known: Mapping[str, Fence], held: Fence) -> Fence:
    """Where a topic without a row begins: where the rows of the table end, unless they are another topic's.

    >>> start_of({}, {0: 7}), start_of({"an older topic": {0: 9}}, {0: 7})
    ({0: 7}, {})
    """
    return {} if known else held


def to_text(offsets: Fence) -> str:
    """Offsets as JSON, always spelled the same way.

    >>> to_text({1: 5, 0: 7})
    '{"0": 7, "1": 5}'
    """
    return json.dumps({str(partition): offset for partition, offset in sorted(offsets.items())})


def places_to_text(places: Mapping[int, Place]) -> str:
    """Places as JSON, always spelled the same way.

    >>> places_to_text({1: (5, 6)})
    '{"1": [5, 6]}'
    """
    return json.dumps({str(partition): list(place) for partition, place in sorted(places.items())})


def places_from_text(text: str | None) -> dict[int, Place]:
    """Read `places_to_text`; nothing when there is none yet. Raises: ContractError when it cannot be read."""
    try:
        return {int(p): (int(commit), int(own)) for p, (commit, own) in json.loads(text or "{}").items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ContractError(f"the warehouse's fence cannot be read: {text!r}") from error


def from_text(text: str) -> dict[int, int]:
    """Read `to_text`. Raises: ContractError, never an empty fence, when it cannot be read."""
    try:
        return {int(partition): int(offset) for partition, offset in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ContractError(f"the warehouse's fence cannot be read: {text!r}") from error
