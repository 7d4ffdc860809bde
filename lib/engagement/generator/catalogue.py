"""The contents that generated events are about: always the same for the same seed and size. Pure."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Literal
from uuid import UUID

ContentType = Literal["podcast", "newsletter", "video"]

CATALOGUE_SIZE = 5_000
CATALOGUE_SEED = 20_240_229
"""Not the event seed: two runs with different seeds share one catalogue instead of growing the table by one each."""

_NEWEST = datetime(2025, 1, 1, tzinfo=UTC)
_OLDEST_DAYS = 730
_TYPES: tuple[ContentType, ...] = ("podcast", "podcast", "podcast", "newsletter", "video", "video")
_SECONDS = {"podcast": (600, 5_400), "video": (30, 1_800)}
_TOPICS = ("City", "Climate", "Cooking", "Culture", "Football", "History", "Markets", "Music", "Science", "Tech")
_FORMS = {
    "podcast": ("Talk", "Stories", "Interview", "Report", "Round Table"),
    "newsletter": ("Briefing", "Weekly", "Notes", "Digest"),
    "video": ("Explained", "Clip", "Documentary", "Live", "Short"),
}


@dataclass(frozen=True)
class ContentRow:
    """A row of `content`; `length_seconds` is None for newsletters."""

    id: str
    slug: str
    title: str
    content_type: ContentType
    length_seconds: int | None
    publish_ts: datetime


def make_catalogue(size: int = CATALOGUE_SIZE, seed: int = CATALOGUE_SEED) -> tuple[ContentRow, ...]:
    """Return `size` contents, the most popular first."""
    chance = Random(seed)  # noqa: S311 - test data
    return tuple(_content(chance, number) for number in range(size))


def random_uuid(chance: Random) -> str:
    """Return a version 4 UUID that depends on nothing but `chance`."""
    return str(UUID(int=chance.getrandbits(128), version=4))


def _content(chance: Random, number: int) -> ContentRow:
    kind = chance.choice(_TYPES)
    title = f"{chance.choice(_TOPICS)} {chance.choice(_FORMS[kind])} {number + 1}"
    return ContentRow(
        id=random_uuid(chance),
        slug=title.lower().replace(" ", "-"),
        title=title,
        content_type=kind,
        length_seconds=chance.randint(*_SECONDS[kind]) if kind in _SECONDS else None,
        publish_ts=_NEWEST - timedelta(minutes=chance.randrange(_OLDEST_DAYS * 24 * 60)),
    )
