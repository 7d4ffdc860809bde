"""What was asked for on the command line, checked as a whole: every problem is told at once."""

import argparse
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from engagement.dead_letters.letter import STATUSES, LetterId, parse_id
from engagement.dead_letters.selection import TRANSFORM, Selection, parse_since
from engagement.errors import ConfigError
from engagement.schemas import DeadLetterCode

Parsed = TypeVar("Parsed")


def add_filters(parser: argparse.ArgumentParser, *, status: str) -> None:
    """Declare the filters that all commands share; `status` says what holds when none is given."""
    add = parser.add_argument
    add("--code", action="append", default=[], metavar="CODES", help="codes, for example E_TS,E_TS_FUTURE")
    add(
        "--sink", action="append", default=[], metavar="NAMES",
        help=f"who refused: a sink's name, or {TRANSFORM} for what was refused for every sink",
    )  # fmt: skip
    add("--since", metavar="TIME", help="Kafka time from which on: 2h, 7d, 2026-11-25 or 2026-11-25T10:30Z")
    add("--status", action="append", default=[], metavar="NAMES", help=f"{', '.join(STATUSES)} (default: {status})")


def selection(args: argparse.Namespace, now: datetime, default: Sequence[str], allowed: Sequence[str]) -> Selection:
    """The letters that are meant. Raises: ConfigError with everything that is wrong."""
    problems: list[str] = []
    codes = _words(args.code, "--code", tuple(DeadLetterCode), problems)
    statuses = _words(args.status, "--status", allowed, problems)
    since = _parsed(args.since, lambda text: parse_since(text, now), problems)
    ids = [found for text in getattr(args, "ids", []) if (found := _parsed(text, parse_id, problems))]
    sinks = _words(args.sink, "--sink", (), problems)
    if problems:
        raise ConfigError(problems)
    return Selection(tuple(ids), codes, sinks, since, statuses or tuple(default))


def one_id(text: str) -> LetterId:
    """Raises: ConfigError."""
    try:
        return parse_id(text)
    except ValueError as error:
        raise ConfigError([str(error)]) from error


def payload(file: Path | None, ids: Sequence[str]) -> bytes | None:
    """The corrected message, for exactly one letter. Raises: ConfigError."""
    if file is None:
        return None
    problems = [] if len(ids) == 1 else ["--payload stands for one message: name exactly one letter's id"]
    try:
        value = file.read_bytes()
    except OSError as error:
        problems.append(f"--payload {file}: {error.strerror}")
        value = b""
    if problems:
        raise ConfigError(problems)
    return value


def _words(given: Sequence[str], option: str, allowed: Sequence[str], problems: list[str]) -> tuple[str, ...]:
    words = [word.strip() for text in given for word in text.split(",") if word.strip()]
    unknown = [word for word in words if allowed and word not in allowed]
    problems += [f"{option} {word}: choose from {', '.join(allowed)}" for word in unknown]
    return tuple(dict.fromkeys(words))


def _parsed(text: str | None, parse: Callable[[str], Parsed], problems: list[str]) -> Parsed | None:
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError as error:
        problems.append(str(error))
        return None
