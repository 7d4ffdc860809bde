"""Messages that nobody should send, from a seed: valid ones, broken in one to three ways."""

import json
import random
from collections.abc import Callable, Iterator

from tests import builders
from tests.builders import Message

_WORDS = (
    *("null", "true", "-1", "0", "1.5", "1.0", "1e3", "-0", "9223372036854775807", "9223372036854775808", "2147483648"),
    *(
        "NaN",
        "Infinity",
        "01",
        "+1",
        "1e999",
        '""',
        '"x"',
        '"5"',
        "[]",
        "{}",
        "[1,2]",
        '{"a":1,"a":2}',
        "'x'",
        "9" * 1500,
    ),
    *(
        '"\\ud800"',
        '"\\udc00\\ud800"',
        '"\\ud83d\\ude00"',
        '"\\\\ud800"',
        '"\\u0000"',
        '"\x01"',
        '"\n"',
        '"=1+1"',
        '"<b>"',
    ),
    *('"__debezium_unavailable_value"', '"Infinity"', '"2026-11-23T15:04:00"', '"2026-11-23T15:04:00Z"', '"play"'),
    *('"2026-11-23T15:06:00+00:00"', '"1999-12-31T23:59:59Z"', '"2026-02-30T00:00:00Z"', '"infinity"', '"PLAY"'),
    *('"+12000-01-01T00:00:00Z"', '"2026-11-23 16:59:58.1+02"', '"2026-11-23T14:59:58.123456789-00:00"'),
    *('"6F1F2A44-0C3E-4B6E-9D2F-0A4F5B1C2D3E"', '"6f1f2a44-0c3e-4b6e-9d2f-0a4f5b1c2d3e\\n"', '{"z":[{"y":1}]}'),
)
_NAMES = (
    *builders.row(),
    "op",
    "before",
    "after",
    "source",
    "lsn",
    "ts_ms",
    "sequence",
    "payload",
    "schema",
    "ID",
    "Device",
)
_SNIPPETS = (
    b"\xef\xbb\xbf",
    b"\xff",
    b"\xed\xa0\x80",
    b"\x00",
    b"]",
    b"}",
    b'"',
    b",",
    b"{",
    b" ",
    b"\n",
    b"//",
    b"\\",
    b"'",
    b"8275309146",
)
Mutation = Callable[[random.Random, bytes], bytes]


def mutations(seed: int) -> Iterator[Message]:
    """Endless messages, the same for the same seed; about one in ten is left valid."""
    random_source = random.Random(seed)
    offset = 0
    while True:
        value = _document(random_source)
        for _ in range(random_source.choice((0, 1, 1, 1, 1, 1, 2, 2, 3))):
            value = random_source.choice(_MUTATIONS)(random_source, value)
        headers = tuple(h for h in ("__debezium.newkey", "__debezium.oldkey") if random_source.random() < 0.05)
        yield Message(None if random_source.random() < 0.005 else value, offset=offset, headers=headers)
        offset += 1


def _document(source: random.Random) -> bytes:
    row = builders.row(
        id=source.choice((1, 77, 2**63 - 1)),
        content_id=source.choice((builders.CONTENT_ID, builders.NEWSLETTER_ID, builders.USER_ID, None)),
        event_type=source.choice(("play", "pause", "finish", "click")),
        duration_ms=source.choice((None, 0, 1, 29_999, 60_000, 90_000_000, 2**31 - 1)),
        device=source.choice(("ios", None, "tv", "", "-", 'a"b\\c')),
        raw_payload=source.choice(('{"a": 1}', "no json", None, "", {"a": [1, 2.5, {"b": None}]}, [1], 3, True)),
    )
    op = source.choice("cccruuddt")
    before = builders.row(id=row["id"] if source.random() < 0.9 else 2)
    envelope = builders.envelope(op, None if op in "dt" else row, before if op in "ud" else None)
    shapes = (envelope, envelope, envelope, row, {"schema": {"type": "struct"}, "payload": envelope})
    shape: dict[str, object] = source.choice(shapes)
    if source.random() < 0.3:
        _replace_member(source, shape)
    spelling = source.choice(({"separators": (",", ":")}, {"separators": (",", ":")}, {}, {"indent": 1}))
    return json.dumps(shape, ensure_ascii=source.random() < 0.5, **spelling).encode()


def _replace_member(source: random.Random, document: dict[str, object]) -> None:
    """Takes out, renames or retypes one member, at any depth of the envelope."""
    name = source.choice(list(document))
    inner = document[name]
    if isinstance(inner, dict) and inner and source.random() < 0.8:
        _replace_member(source, inner)
        return
    value = document.pop(name)
    act = source.randrange(4)
    if act == 0:
        document[source.choice((name.upper(), name.capitalize(), name + "x"))] = value
    elif act == 1:
        document[name] = source.choice((None, 1, -1, 1.5, "x", "7", True, [], {}, [value], {"v": value}, str(value)))
    elif act == 2:
        document[name], document["added"] = value, {"deep": [value]}


def _truncate(source: random.Random, value: bytes) -> bytes:
    return value[: source.randrange(len(value) + 1)]


def _flip(source: random.Random, value: bytes) -> bytes:
    if not value:
        return value
    at = source.randrange(len(value))
    return value[:at] + bytes([value[at] ^ (1 << source.randrange(8))]) + value[at + 1 :]


def _insert(source: random.Random, value: bytes) -> bytes:
    at = source.choice((0, len(value), source.randrange(len(value) + 1)))
    return value[:at] + source.choice(_SNIPPETS) + value[at:]


def _append(source: random.Random, value: bytes) -> bytes:
    tails = (b"x", b" {}", b',{"a":1}', b"] [", b"} {", b"]", b',{"__end":8275309146}]', b' "\\ud800"', b"\t\n ", value)
    return value + source.choice(tails)


def _repeat_name(source: random.Random, value: bytes) -> bytes:
    name, word = source.choice(_NAMES), source.choice(_WORDS)
    return value.replace(b"{", b'{"' + name.encode() + b'":' + word.encode() + b",", 1)


def _replace_value(source: random.Random, value: bytes) -> bytes:
    name = b'"' + source.choice(_NAMES).encode() + b'":'
    at = value.find(name)
    if at < 0:
        return value
    start = at + len(name)
    ends = [end for end in (value.find(b",", start), value.find(b"}", start)) if end >= 0]
    return value[:start] + source.choice(_WORDS).encode() + (value[min(ends) :] if ends else b"")


def _nest(source: random.Random, value: bytes) -> bytes:
    depth = source.choice((3, 900, 997, 998, 999, 1000, 1001, 3000))
    opening, closing = source.choice(((b"[", b"]"), (b'{"a":', b"}")))
    nested = opening * depth + b"1" + closing * depth
    if source.random() < 0.5:
        return value.replace(b'"raw_payload":', b'"raw_payload":' + nested + b',"former":', 1)
    return value.replace(b"{", b'{"n":' + nested + b",", 1)


def _wrap(source: random.Random, value: bytes) -> bytes:
    return source.choice((b"[%b]", b'{"payload":%b}', b'"%b"', b" %b ")).replace(b"%b", value)


def _grow(source: random.Random, value: bytes) -> bytes:
    if source.random() < 0.9:
        return value
    size = source.choice((60_000, 600_000, 1_100_000))
    large = b'"' + source.choice((b"x", b"\\n", b'\\"', "\u00e9".encode())) * size + b'"'
    grown = value.replace(b'"ios"', large, source.choice((1, 2)))
    return grown.replace(b'{"id"', b'{"' + b"k" * 60_000 + b'":1,"id"', 1)


_MUTATIONS: tuple[Mutation, ...] = (
    *(_truncate, _flip, _insert, _append, _repeat_name, _replace_value, _replace_value, _nest, _wrap, _grow),
)
