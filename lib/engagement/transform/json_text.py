"""Strict JSON out of a message's bytes, or the code that refuses them. Knows nothing about envelopes or columns.

The standard library's C scanner reads the text once; what it would let pass is caught around it: names given twice by
the hook that builds objects, NaN and Infinity by the hook for constants, data behind the value by where it stopped.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn, TypeAlias

from engagement.schemas import DeadLetterCode

MAX_BYTES = 1_048_576
"""Of a text that is read whatever it holds."""
MAX_OUTSIDE_STRINGS = 65_536
"""Characters of a larger text that are in no string. A database's rows are strings and little else, and quickly read at
any size; millions of numbers or brackets would take a minute and half a gigabyte."""
MAX_DEPTH = 1_000
RECURSION_LIMIT = 3 * MAX_DEPTH
"""What `sys.setrecursionlimit` needs for values of MAX_DEPTH; far deeper ones then raise before the C stack ends."""

_INTEGER_DIGITS = 20
_SPACES = re.compile(r"[ \t\n\r]*")
_BRACKETS_OUTSIDE_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*+"|([\[{])|([\]}])', re.DOTALL)
# One that never ends reaches to the end: else each quote within it, escaped or not, would be tried as the first.
_STRINGS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_ESCAPED_BACKSLASH = re.compile(r"\\\\")
_SURROGATE_PAIR = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


@dataclass(frozen=True, slots=True)
class Number:
    """A number that is no integer of 64 bits, as it was spelled."""

    text: str


MINUS_ZERO = Number("-0")
"""Read for every -0: where a column takes integers it is one, and a payload keeps its sign."""

Json: TypeAlias = "bool | str | int | Number | list[Json] | JsonObject | None"
JsonObject: TypeAlias = dict[str, Json]


class Refusal(NamedTuple):
    """Why something is not accepted."""

    code: DeadLetterCode
    detail: str
    """A short reason that never quotes the payload."""


class JsonReader:
    """Reads one text after the other; keeps its scanner, since making one costs as much as reading a message."""

    def __init__(self) -> None:
        self._repeated = False
        self._scan = json.JSONDecoder(
            object_pairs_hook=self._build_object,
            parse_float=Number,
            parse_int=_parse_integer,
            parse_constant=_refuse_constant,
        ).raw_decode

    def read(self, value: bytes) -> JsonObject | Refusal:
        """The one JSON object that the bytes hold, or why they do not.

        Needs a recursion limit of RECURSION_LIMIT; with a lower one, deep values are refused earlier.
        """
        try:
            text = value.decode("utf-8")
        except UnicodeDecodeError:
            return Refusal(DeadLetterCode.E_UTF8, "bytes are no UTF-8")
        if len(value) > MAX_BYTES and len(_STRINGS.sub("", text)) > MAX_OUTSIDE_STRINGS:
            return Refusal(DeadLetterCode.E_TOO_LARGE, "more than 1 MiB")
        if "\\u" in text and _has_lone_surrogate(text):
            return Refusal(DeadLetterCode.E_UTF8, "unpaired surrogate escape")
        return self._read_object(text)

    def _read_object(self, text: str) -> JsonObject | Refusal:
        self._repeated = False
        start = _end_of_spaces(text, 0)
        try:
            document, end = self._scan(text, start)
        except (ValueError, RecursionError):
            document, end = None, start
        if not isinstance(document, dict) or _is_too_deep(text[start:end]):
            return Refusal(DeadLetterCode.E_JSON, "not one JSON object")
        if self._repeated or _end_of_spaces(text, end) != len(text):
            return Refusal(DeadLetterCode.E_JSON_STRICT, "duplicate names, or data behind the object")
        return document

    def _build_object(self, members: list[tuple[str, Any]]) -> JsonObject:
        built = dict(members)
        if len(built) != len(members):
            self._repeated = True
        return built


def to_compact_text(value: Json) -> str:
    """A JSON value as text without blanks, its numbers spelled as they came.

    Needs no frame per level: under a worker's own frames those of MAX_DEPTH would end at the recursion limit.
    """
    written: list[str] = []
    opened = [iter((_text_or_container(value),))]
    while opened:
        part = next(opened[-1], None)
        if part is None:
            opened.pop()
        elif isinstance(part, str):
            written.append(part)
        else:
            opened.append(_parts(part))
    return "".join(written)


def _parts(container: JsonObject | list[Json]) -> Iterator[str | JsonObject | list[Json]]:
    """A container's text in pieces, with the containers in it as they are."""
    if isinstance(container, dict):
        yield "{"
        for place, (name, item) in enumerate(container.items()):
            yield f"{',' if place else ''}{json.dumps(name, ensure_ascii=False)}:"
            yield _text_or_container(item)
        yield "}"
    else:
        yield "["
        for place, item in enumerate(container):
            if place:
                yield ","
            yield _text_or_container(item)
        yield "]"


def _text_or_container(value: Json) -> str | JsonObject | list[Json]:
    if isinstance(value, dict | list):
        return value
    return value.text if isinstance(value, Number) else json.dumps(value, ensure_ascii=False)


def _parse_integer(text: str) -> int | Number:
    # Longer ones are beyond 64 bits; reading a million digits would take minutes.
    value = int(text) if len(text) <= _INTEGER_DIGITS else None
    if value == 0 and text == MINUS_ZERO.text:
        return MINUS_ZERO
    return value if value is not None and -(2**63) <= value < 2**63 else Number(text)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _end_of_spaces(text: str, start: int) -> int:
    match = _SPACES.match(text, start)
    return match.end() if match else start


def _is_too_deep(text: str) -> bool:
    # Only text with that many brackets is worth the walk.
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    depth = 0
    for match in _BRACKETS_OUTSIDE_STRINGS.finditer(text):
        opening, closing = match.groups()
        depth += 1 if opening else -1 if closing else 0
        if depth > MAX_DEPTH:
            return True
    return False


def _has_lone_surrogate(text: str) -> bool:
    # A blank for what is taken out, so that its neighbours do not become a pair.
    escapes = _SURROGATE_PAIR.sub(" ", _ESCAPED_BACKSLASH.sub(" ", text))
    return _SURROGATE.search(escapes) is not None
