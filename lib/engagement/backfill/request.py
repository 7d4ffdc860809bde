"""What a backfill is asked for: a range of event times, checked before anything starts. Pure."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from typing import TypeVar

from engagement.errors import ConfigError
from engagement.sources.history import Span

First = TypeVar("First")
Second = TypeVar("Second")

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_FORM = "is no UTC day (2025-08-01) and no instant with a zone (2025-08-01T12:00:00Z)"
OPTIONS = ("--start-date", "--end-date")


def parse_moment(text: str) -> datetime:
    """A day as its beginning, or an instant, in UTC. Raises: ValueError with a sentence for a person.

    >>> parse_moment("2025-08-01").isoformat(), parse_moment("2025-08-01T02:00:00+02:00").isoformat()
    ('2025-08-01T00:00:00+00:00', '2025-08-01T00:00:00+00:00')
    """
    try:
        if _DAY.fullmatch(text):
            return datetime.combine(date.fromisoformat(text), time(), UTC)
        moment = datetime.fromisoformat(text)
        zoned = moment.tzinfo is not None
        in_utc = moment.astimezone(UTC) if zoned else moment
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} {_FORM}") from None
    if not zoned:
        raise ValueError(f"{text!r} {_FORM}: which zone is meant?")
    return in_utc


def span_of(start: str | None, end: str | None, names: tuple[str, str] = OPTIONS) -> Span:
    """The range that was asked for. Raises: ConfigError with every reason why it is none.

    `names` are the options' names, for the reasons.
    """
    problems: list[str] = []
    found: list[datetime | None] = []
    for name, text in zip(names, (start, end), strict=True):
        moment, problem = _read(name, text)
        found.append(moment)
        problems += [problem] if problem else []
    first, last = found
    if first and last and last <= first:
        problems.append(f"{names[1]} {end} must lie after {names[0]} {start}; the end itself does not belong to it")
    if problems or not (first and last):
        raise ConfigError(problems)
    return Span(first, last)


def both(first: Callable[[], First], second: Callable[[], Second]) -> tuple[First, Second]:
    """What two questions to the caller's words give. Raises: ConfigError with the reasons of both, not one by one."""
    try:
        found = first()
    except ConfigError as error:
        raise ConfigError([*error.problems, *_problems_of(second)]) from None
    return found, second()


def _problems_of(question: Callable[[], object]) -> tuple[str, ...]:
    try:
        question()
    except ConfigError as error:
        return error.problems
    return ()


def _read(name: str, text: str | None) -> tuple[datetime | None, str]:
    if text is None:
        setting = f"BACKFILL_{name[2:].replace('-', '_').upper()}" if name in OPTIONS else ""
        return None, f"{name} is missing{f', and {setting} is not set' if setting else ''}"
    try:
        return parse_moment(text), ""
    except ValueError as error:
        return None, f"{name} {error}"
