"""ISO 8601 text to microseconds since 1970, by the calendar's own arithmetic: Python's datetime ends with year 9999."""

import calendar
import re
from datetime import UTC, datetime, timedelta

SECOND = 1_000_000
FUTURE_LIMIT = 5 * 60 * SECOND
YEAR_2000 = 946_684_800 * SECOND
LAST = 253_402_300_800 * SECOND - 1
"""Of the year 9999."""
_PATTERN = re.compile(
    r"(?P<year>[0-9]{4}|[+-][0-9]{4,6})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})[T ]"
    r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]{1,9}))?"
    r"(?P<zone>Z|[+-][0-9]{2}(?::?[0-9]{2})?)"
)
_DAYS_IN_400_YEARS = 146_097
_ZONE_LIMIT_MINUTES = 18 * 60


def micros_of(moment: datetime) -> int:
    """Microseconds since 1970."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def parse_instant(text: str) -> int | None:
    """Microseconds since 1970, finer digits cut; None when the text names no instant (or one beyond 64 bits)."""
    match = _PATTERN.fullmatch(text)
    offset = _offset_minutes(match["zone"]) if match else None
    if match is None or offset is None:
        return None
    cycles, year = divmod(int(match["year"]) - 2000, 400)
    try:
        month, day, hour, minute, second = (int(match[n]) for n in ("month", "day", "hour", "minute", "second"))
        local = datetime(2000 + year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    fraction = int((match["fraction"] or "").ljust(6, "0")[:6])
    seconds = calendar.timegm(local.timetuple()) + cycles * _DAYS_IN_400_YEARS * 86_400 - offset * 60
    micros = seconds * SECOND + fraction
    return micros if -(2**63) <= micros < 2**63 else None


def _offset_minutes(zone: str) -> int | None:
    if zone == "Z":
        return 0
    digits = zone[1:].replace(":", "")
    hours, minutes = int(digits[:2]), int(digits[2:] or "0")
    total = hours * 60 + minutes
    if minutes > 59 or total > _ZONE_LIMIT_MINUTES:
        return None
    return -total if zone[0] == "-" else total
