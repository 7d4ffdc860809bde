"""The board in Redis as it must be: contract section 4, from the newest versions of all rows."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from tests.builders import Message
from tests.reference.decode import Image, decode
from tests.reference.instant import micros_of
from tests.reference.scoring import enrich, half_up

_STEP_SECONDS = 10


@dataclass(frozen=True)
class RowVersion:
    """A row version that counts (or a deletion), as far as the board looks at it."""

    event_id: int
    order: tuple[int, ...]
    """Whatever says which version is newer: version, or (commit LSN, LSN, half)."""
    deleted: bool
    content_id: str | None
    user_id: str | None
    event_type: str | None
    event_ts_micros: int | None
    duration_ms: int | None


@dataclass
class ContentTotals:
    """The window's totals of one content."""

    units: int = 0
    events: int = 0
    play: int = 0
    pause: int = 0
    finish: int = 0
    click: int = 0
    duration_ms: int = 0
    users: set[str] = field(default_factory=set)
    last_event_micros: int = 0
    pcts: list[Decimal] = field(default_factory=list)

    @property
    def score(self) -> float:
        """Points, as Redis holds them."""
        return self.units / 100_000

    @property
    def avg_engagement_pct(self) -> Decimal | None:
        """Mean of the events that have a percentage, two decimals, half up."""
        return half_up(sum(map(Fraction, self.pcts), Fraction(0)) / len(self.pcts)) if self.pcts else None


def window(now: datetime, minutes: int = 10) -> tuple[datetime, datetime]:
    """[E - minutes, E), E being the next full 10 s after now."""
    end = datetime.fromtimestamp((int(now.timestamp()) // _STEP_SECONDS + 1) * _STEP_SECONDS, now.tzinfo)
    return end - timedelta(minutes=minutes), end


def row_versions(messages: Iterable[Message]) -> list[RowVersion]:
    """What the messages say about rows; an invalid version counts as a deletion, since the row leaves the board.

    So does the former id of an update that changed it.
    """
    versions = []
    for message in messages:
        outcome = decode(message.value, message.offset, message.kafka_ts, message.headers)
        own = outcome.images[0]
        if own.event_id is None or outcome.version is None:
            continue
        order = (outcome.version, outcome.half, message.offset)
        versions.append(_row_version(own, own.event_id, order, gone=own.effect != 1))
        former = {image.event_id for image in outcome.images} - {own.event_id, None}
        versions += [_row_version(own, event_id, order, gone=True) for event_id in former if event_id]
    return versions


def _row_version(own: Image, event_id: int, order: tuple[int, ...], *, gone: bool) -> RowVersion:
    columns = (own.content_id, own.user_id, own.event_type, own.event_ts_micros, own.duration_ms)
    return RowVersion(event_id, order, gone, *columns)


def board(
    versions: Iterable[RowVersion], lengths: Mapping[str, int | None], start: datetime, end: datetime
) -> dict[str, ContentTotals]:
    """content_id -> totals over the newest versions of live rows whose event_ts lies in [start, end)."""
    newest: dict[int, RowVersion] = {}
    for version in versions:
        if version.event_id not in newest or version.order > newest[version.event_id].order:
            newest[version.event_id] = version
    totals: dict[str, ContentTotals] = {}
    for row in newest.values():
        moment = row.event_ts_micros
        if row.deleted or row.content_id is None or row.event_type is None or moment is None:
            continue
        if micros_of(start) <= moment < micros_of(end):
            _add(totals.setdefault(row.content_id, ContentTotals()), row, row.event_type, lengths.get(row.content_id))
    return totals


def ranking(totals: Mapping[str, ContentTotals], size: int) -> list[tuple[str, float]]:
    """As ZREVRANGE gives it: by score, then by content_id, both descending."""
    order = sorted(((total.units, content_id) for content_id, total in totals.items()), reverse=True)
    return [(content_id, totals[content_id].score) for _, content_id in order[:size]]


def _add(total: ContentTotals, row: RowVersion, event_type: str, length: int | None) -> None:
    enrichment = enrich(event_type, row.duration_ms, length)
    total.units += enrichment.units
    total.events += 1
    setattr(total, event_type, getattr(total, event_type) + 1)
    total.duration_ms += row.duration_ms or 0
    total.last_event_micros = max(total.last_event_micros, row.event_ts_micros or 0)
    if row.user_id is not None:
        total.users.add(row.user_id)
    if enrichment.pct is not None:
        total.pcts.append(enrichment.pct)
