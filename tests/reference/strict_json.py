"""A strict JSON reader that keeps what the standard library hides: repeated names, number spelling, trailing data."""

import json
import math
import re
from dataclasses import dataclass, field
from typing import TypeAlias

MAX_DEPTH = 1_000
_LONGEST_INTEGER = 20


class JsonError(ValueError):
    """The text does not begin with a JSON value."""


@dataclass(frozen=True)
class Number:
    """A number as it was written."""

    text: str

    def integer(self) -> int | None:
        """Its value, when it is spelled as an integer of 64 bits."""
        if len(self.text) > _LONGEST_INTEGER or not re.fullmatch(r"-?[0-9]+", self.text):
            return None
        value = int(self.text)
        return value if -(2**63) <= value < 2**63 else None


Json: TypeAlias = "bool | str | Number | list[Json] | dict[str, Json] | None"


@dataclass
class Document:
    """The first value of a text, and what was not strict about it."""

    value: Json = None
    has_repeated_names: bool = False
    has_trailing_data: bool = False


_TOKEN = re.compile(
    r"[ \t\n\r]*+(?:"
    r'(?P<string>"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+")'
    r"|(?P<number>-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?)"
    r"|(?P<word>true|false|null)|(?P<mark>[\[\]{}:,]))"
)
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_LOW_SURROGATE = re.compile(r"\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}
_OPENING, _CLOSING = "[{", "]}"
_SPACE = " \t\n\r"


@dataclass
class _Open:
    """A container that is being read."""

    items: "list[Json] | dict[str, Json]"
    name: str = ""
    is_empty: bool = True


@dataclass
class _Reader:
    text: str
    document: Document = field(default_factory=Document)
    position: int = 0
    open: list[_Open] = field(default_factory=list)

    def take(self) -> tuple[str, str]:
        match = _TOKEN.match(self.text, self.position)
        if match is None or match.lastgroup is None:
            raise JsonError("no token")
        self.position = match.end()
        return match.lastgroup, match[match.lastgroup]

    def take_mark(self, allowed: str) -> str:
        kind, token = self.take()
        if kind != "mark" or token not in allowed:
            raise JsonError("another mark was due")
        return token

    def take_name(self, token: tuple[str, str]) -> None:
        kind, text = token
        if kind != "string":
            raise JsonError("a name was due")
        name = _unquoted(text)
        container = self.open[-1]
        self.document.has_repeated_names |= name in container.items
        container.name = name
        self.take_mark(":")

    def put(self, value: Json) -> None:
        if not self.open:
            self.document.value = value
            return
        container = self.open[-1]
        container.is_empty = False
        if isinstance(container.items, dict):
            container.items[container.name] = value
        else:
            container.items.append(value)

    def value(self, token: tuple[str, str]) -> bool:
        """Reads the value that begins with the token; true when that opened a container."""
        kind, text = token
        if kind == "mark":
            if text not in _OPENING or len(self.open) == MAX_DEPTH:
                raise JsonError("a value was due, or too deep")
            items: list[Json] | dict[str, Json] = [] if text == "[" else {}
            self.put(items)
            self.open.append(_Open(items))
            return True
        self.put(_unquoted(text) if kind == "string" else Number(text) if kind == "number" else _WORDS[text])
        return False

    def step(self) -> None:
        """Reads one member of the innermost container, or its end."""
        container = self.open[-1]
        closing = "}" if isinstance(container.items, dict) else "]"
        if not container.is_empty and self.take_mark("," + closing) == closing:
            self.open.pop()
            return
        token = self.take()
        if container.is_empty and token == ("mark", closing):
            self.open.pop()
            return
        if isinstance(container.items, dict):
            self.take_name(token)
            token = self.take()
        # The parent is no longer empty once the value is put, also when the value is a container itself.
        self.value(token)


def _unquoted(token: str) -> str:
    """What a string token means; most have no escape."""
    return str(json.loads(token)) if "\\" in token else token[1:-1]


def read_json(text: str) -> Document:
    """The first JSON value of a text. Raises: JsonError."""
    deep = text.count("[") + text.count("{") > MAX_DEPTH
    return read_any_depth(text) if deep else _read_shallow(text)


def _read_shallow(text: str) -> Document:
    """By the standard library, four times as fast, and told to keep what it would hide."""
    document = Document()

    def members(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        found = dict(pairs)
        document.has_repeated_names |= len(found) < len(pairs)
        return found

    decoder = json.JSONDecoder(
        object_pairs_hook=members, parse_int=Number, parse_float=Number, parse_constant=_refuse_constant
    )
    begin = len(text) - len(text.lstrip(_SPACE))
    try:
        document.value, end = decoder.raw_decode(text, begin)
    except json.JSONDecodeError as error:
        raise JsonError(str(error)) from error
    document.has_trailing_data = bool(text[end:].strip(_SPACE))
    return document


def _refuse_constant(name: str) -> Json:
    raise JsonError(f"{name} is no JSON")


def read_any_depth(text: str) -> Document:
    """The same, token by token and without recursion. Raises: JsonError."""
    reader = _Reader(text)
    reader.value(reader.take())
    while reader.open:
        reader.step()
    reader.document.has_trailing_data = bool(text[reader.position :].strip(_SPACE))
    return reader.document


def has_lone_surrogate(text: str) -> bool:
    r"""Whether the text holds a \u escape of half a character, in a string or not."""
    position = 0
    while True:
        position = text.find("\\", position)
        if position < 0:
            return False
        match = _ESCAPE.match(text, position)
        if match is None:
            position += 2
            continue
        unit = int(match[1], 16)
        position = match.end()
        if 0xDC00 <= unit <= 0xDFFF:
            return True
        if 0xD800 <= unit <= 0xDBFF:
            if _LOW_SURROGATE.match(text, position) is None:
                return True
            position += 6


def as_text(value: Json) -> str | None:
    """A JSON value as text: text itself, anything else as compact JSON."""
    return value if value is None or isinstance(value, str) else json.dumps(plain(value), separators=(",", ":"))


def shortest_bytes(value: Json) -> int:
    """How many bytes of UTF-8 the value takes where nothing is spelled longer than it must be."""
    total, waiting = 0, [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict | list):
            total += max(2, len(item) + 1)
            waiting += item.values() if isinstance(item, dict) else item
            total += sum(shortest_bytes(name) + 1 for name in item) if isinstance(item, dict) else 0
        elif isinstance(item, Number):
            total += len(item.text)
        else:
            total += len(json.dumps(item, ensure_ascii=False).encode())
    return total


def plain(value: Json) -> object:
    """A JSON value with its numbers as floats (text where too large), for comparing what two writers made of it."""
    if isinstance(value, Number):
        number = float(value.text)
        return number if math.isfinite(number) else "-Infinity" if number < 0 else "Infinity"
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def read_plain(text: str) -> object:
    """JSON text in the form of `plain`."""
    return json.loads(text, parse_int=_plain_number, parse_float=_plain_number)


def _plain_number(text: str) -> object:
    return plain(Number(text))
