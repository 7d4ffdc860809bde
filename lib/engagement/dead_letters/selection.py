"""Which letters are meant: what people give as filters, as a condition on the table."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from engagement.dead_letters.letter import LetterId

TRANSFORM = "transform"
"""What people say for letters that no sink refused, but the transform, for all of them."""
_AGE = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True)
class Selection:
    """Filters that all must hold; an empty one lets everything pass."""

    ids: tuple[LetterId, ...] = ()
    codes: tuple[str, ...] = ()
    sinks: tuple[str, ...] = ()
    """Names of sinks, or TRANSFORM."""
    since: datetime | None = None
    """Earliest Kafka time."""
    statuses: tuple[str, ...] = ()

    @property
    def is_everything(self) -> bool:
        """Whether nothing but perhaps the status limits it."""
        return not (self.ids or self.codes or self.sinks or self.since)

    def condition(self) -> str:
        """The same as SQL.

        >>> Selection(codes=("E_TS",), statuses=("new",)).condition()
        "code in ('E_TS') and status in ('new')"
        """
        parts = [
            " or ".join(map(id_condition, self.ids)),
            _among("code", self.codes),
            _among(f"coalesce(sink, {quoted(TRANSFORM)})", self.sinks),
            # The day is the table's partition: whole files are left out by it.
            "" if self.since is None else f"kafka_date >= {_day(self.since)} and kafka_ts >= {_moment(self.since)}",
            _among("status", self.statuses),
        ]
        return " and ".join(f"({part})" if " or " in part else part for part in parts if part) or "true"


def id_condition(letter: LetterId) -> str:
    """One letter as SQL."""
    place = f"kafka_partition = {letter.partition} and kafka_offset = {letter.offset}"
    return f"({place} and topic = {quoted(letter.topic)} and stage = {quoted(letter.stage)})"


def quoted(text: str) -> str:
    """A text as an SQL literal.

    >>> quoted("it's")
    "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"


def parse_since(text: str, now: datetime) -> datetime:
    """A moment: `2h` ago (s, m, h, d), a day, or an ISO time; without a zone it is UTC. Raises: ValueError.

    >>> parse_since("90m", datetime(2026, 11, 25, 12, tzinfo=UTC)).isoformat()
    '2026-11-25T10:30:00+00:00'
    """
    age = _AGE.fullmatch(text.strip())
    if age:
        return now - timedelta(**{_UNITS[age[2]]: int(age[1])})
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{text!r} is no time: 2h, 2026-11-25 or 2026-11-25T10:30Z, for example") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _among(column: str, values: Sequence[str]) -> str:
    return f"{column} in ({', '.join(map(quoted, values))})" if values else ""


def _day(moment: datetime) -> str:
    return f"date {quoted(moment.astimezone(UTC).date().isoformat())}"


def _moment(moment: datetime) -> str:
    return f"to_timestamp_micros({int(moment.timestamp() * 1_000_000)})"
