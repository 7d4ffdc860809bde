"""A dead letter's name, and what is known of it."""

import re
from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple

NEW, REPLAYED, DISCARDED = "new", "replayed", "discarded"
STATUSES = (NEW, REPLAYED, DISCARDED)
_ID = re.compile(r"([A-Za-z0-9._-]{1,249}):(\d{1,10}):(\d{1,19}):([a-z0-9_-]{1,40})")


class LetterId(NamedTuple):
    """Where a message was refused; two letters share one only if their topic was made again between them.

    >>> str(LetterId("engagement-events", 2, 1234, "decode"))
    'engagement-events:2:1234:decode'
    """

    topic: str
    partition: int
    offset: int
    stage: str

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}:{self.stage}"


def parse_id(text: str) -> LetterId:
    """The id that `str(LetterId)` wrote. Raises: ValueError.

    >>> parse_id("engagement-events:2:1234:decode").offset
    1234
    """
    found = _ID.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no dead letter's id: topic:partition:offset:stage, as `list` prints it")
    topic, partition, offset, stage = found.groups()
    return LetterId(topic, int(partition), int(offset), stage)


@dataclass(frozen=True)
class Place:
    """Where a letter lies in the table; no two letters share one."""

    id: LetterId
    kafka_us: int
    """Kafka time of its message, microseconds since 1970: what tells it from one of a topic's earlier life."""
    kafka_date: date
    sink: str | None
    size: int


class Action(NamedTuple):
    """Something that somebody has done with a letter."""

    at: datetime
    who: str
    action: str
    detail: str


@dataclass(frozen=True)
class Letter:
    """A letter without its bytes."""

    id: LetterId
    kafka_ts: datetime
    code: str
    detail: str
    sink: str | None
    """The sink that refused it; None: the transform, for every sink."""
    attempts: int
    batch_id: str
    status: str
    history: tuple[Action, ...] = ()


@dataclass(frozen=True)
class FullLetter:
    """A letter with its message."""

    place: Place
    letter: Letter
    value: bytes
    header_names: tuple[str, ...] = ()
    replay_of: int | None = None
    """Offset of the letter whose message this one stood for already, when a sink refused it."""

    @property
    def stands_at(self) -> int:
        """The offset that the row version's name is made of, however often it was sent again.

        Letters of earlier releases may name any number; the rule is the transform's.
        """
        own = self.place.id.offset
        return own if self.replay_of is None or self.replay_of < 0 else min(self.replay_of, own)
