"""Times and microseconds since 1970; ISO 8601 text also of years before 1 and beyond 9999: PostgreSQL has them."""

import re
from datetime import UTC, datetime, timedelta

SECOND_US = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_COMMON = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.(?:[0-9]{3}|[0-9]{6}))?Z")
"""How Debezium writes nearly every time; Python reads it by itself."""
# Debezium writes unusual years with a sign, as ISO 8601 does.
_ANY = re.compile(
    r"([0-9]{4}|[+-][0-9]{4,6})(-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(?:Z|([+-])([0-9]{2})(?::?([0-9]{2}))?)"
)
_CYCLE_YEARS, _CYCLE_US = 400, 146_097 * 86_400 * SECOND_US
"""The calendar repeats itself after this many years, which are this many microseconds."""
_ANY_CYCLE = 2000
_LAST_PLAIN_YEAR = 9999
_ZONE_LIMIT_MINUTES = 18 * 60
_HOUR_MINUTES = 60


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970.

    >>> to_micros(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))
    1000000
    """
    return (moment - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The time so many microseconds since 1970. Raises: OverflowError outside the years 1 to 9999.

    >>> from_micros(1_000_000)
    datetime.datetime(1970, 1, 1, 0, 0, 1, tzinfo=datetime.timezone.utc)
    """
    return _EPOCH + micros * _MICROSECOND


def parse_instant(text: str) -> int | None:
    """Microseconds since 1970, finer digits cut; None when the text names no time with a zone, or none of 64 bits."""
    if _COMMON.fullmatch(text):
        try:
            return to_micros(datetime.fromisoformat(text))
        except ValueError:
            return _parse_any(text)  # no such day, or the year 0
    return _parse_any(text)


def _parse_any(text: str) -> int | None:
    match = _ANY.fullmatch(text)
    if match is None:
        return None
    year, day_and_time, fraction, sign, hours, minutes = match.groups()
    zone = _zone_minutes(sign, hours, minutes)
    cycles, year_in_cycle = divmod(int(year), _CYCLE_YEARS)
    try:
        local = datetime.fromisoformat(f"{_ANY_CYCLE + year_in_cycle}{day_and_time}").replace(tzinfo=UTC)
    except ValueError:
        return None
    if zone is None:
        return None
    micros = to_micros(local) + int((fraction or "").ljust(6, "0")[:6])
    micros += (cycles - _ANY_CYCLE // _CYCLE_YEARS) * _CYCLE_US - zone * _HOUR_MINUTES * SECOND_US
    return micros if -(2**63) <= micros < 2**63 else None


def _zone_minutes(sign: str | None, hours: str | None, minutes: str | None) -> int | None:
    if sign is None:
        return 0
    total = int(hours or 0) * _HOUR_MINUTES + int(minutes or 0)
    if int(minutes or 0) >= _HOUR_MINUTES or total > _ZONE_LIMIT_MINUTES:
        return None
    return -total if sign == "-" else total


def to_text(micros: int) -> str:
    """The time as ISO 8601 text that `parse_instant` reads back, whatever its year.

    >>> to_text(0), to_text(-62_167_219_200_000_001)
    ('1970-01-01T00:00:00.000000Z', '-0001-12-31T23:59:59.999999Z')
    """
    cycles, within = divmod(micros, _CYCLE_US)
    moment = _EPOCH + within * _MICROSECOND
    year = moment.year + cycles * _CYCLE_YEARS
    sign = "" if 0 <= year <= _LAST_PLAIN_YEAR else "-" if year < 0 else "+"
    return f"{sign}{abs(year):04}{moment:-%m-%dT%H:%M:%S.%f}Z"
