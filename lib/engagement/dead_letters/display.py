"""Letters as people read them, and as programs do."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from engagement.dead_letters.letter import STATUSES, FullLetter, Letter
from engagement.dead_letters.selection import TRANSFORM
from engagement.dead_letters.table import Count
from engagement.transform.json_text import Refusal

READABLE_CHARACTERS = 4_000
HEX_BYTES = 256
_HEX_LINE = 16
_CONTROL = {number: f"\\x{number:02x}" for number in (*range(32), *range(127, 160)) if chr(number) not in "\n\t"}


def count_table(counts: Sequence[Count]) -> Table:
    """Letters by code and sink, a column per status."""
    table = Table("code", "refused by", *STATUSES, "oldest (UTC)", title="Dead letters", title_justify="left")
    for name in STATUSES:
        table.columns[2 + STATUSES.index(name)].justify = "right"
    for code, sink in dict.fromkeys((count.code, count.sink) for count in counts):
        same = [count for count in counts if (count.code, count.sink) == (code, sink)]
        by_status = {count.status: count.letters for count in same}
        oldest = min(count.oldest for count in same)
        numbers = (f"{by_status.get(name, 0):,}" for name in STATUSES)
        table.add_row(escape(code), escape(sink), *numbers, moment(oldest))
    return table


def letter_table(letters: Sequence[Letter]) -> Table:
    """One line per letter."""
    table = Table("id", "Kafka time (UTC)", "code", "refused by", "status", "reason")
    table.columns[0].overflow = "fold"
    for letter in letters:
        table.add_row(
            str(letter.id), moment(letter.kafka_ts), letter.code, letter.sink or TRANSFORM, letter.status,
            Text(printable(letter.detail)),
        )  # fmt: skip
    return table


def shown(full: FullLetter, now: Refusal | None) -> Iterator[str]:
    """A letter whole, line by line; `now` is what the transform of this release says of it."""
    letter = full.letter
    verdict = "it would pass" if now is None else f"it would be refused again: {now.code}, {now.detail}"
    facts = {
        "id": str(letter.id),
        "Kafka time": moment(letter.kafka_ts),
        "code": letter.code,
        "reason": letter.detail,
        "refused by": letter.sink or f"{TRANSFORM} (for every sink)",
        "attempts": str(letter.attempts),
        "micro-batch": letter.batch_id,
        "status": letter.status,
        "headers": ", ".join(full.header_names) or "none",
        "if it came now": verdict,
    }
    yield from (f"{name:15}{printable(value)}" for name, value in facts.items())
    yield f"{'history':15}{'nothing was done yet' if not letter.history else ''}".rstrip()
    for action in letter.history:
        yield f"  {moment(action.at)}  {action.action} by {printable(action.who)}  {printable(action.detail)}"
    yield f"{'message':15}{len(full.value):,} bytes"
    yield from (f"  {line}" for line in readable(full.value))


def readable(value: bytes) -> Iterator[str]:
    """The message as text, JSON indented; bytes that are no text as hexadecimal."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        yield from hex_lines(value[:HEX_BYTES])
        if len(value) > HEX_BYTES:
            yield f"... {len(value) - HEX_BYTES:,} more bytes; `show --raw` writes all of them"
        return
    try:
        pretty = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        pretty = text
    yield from printable(pretty[:READABLE_CHARACTERS]).split("\n")
    if len(pretty) > READABLE_CHARACTERS:
        yield f"... {len(pretty) - READABLE_CHARACTERS:,} more characters; `show --raw` writes all of it"


def hex_lines(value: bytes) -> Iterator[str]:
    """As `xxd` shows bytes.

    >>> list(hex_lines(bytes([0, 65, 255])))
    ['00000000  00 41 ff                                         .A.']
    """
    for start in range(0, len(value), _HEX_LINE):
        part = value[start : start + _HEX_LINE]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)  # noqa: PLR2004 printable ASCII
        yield f"{start:08x}  {part.hex(' '):47}  {text}"


def printable(text: str) -> str:
    r"""Text that moves no cursor and sets no colour: it may come from anybody.

    >>> printable("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    return text.translate(_CONTROL)


def moment(at: datetime) -> str:
    """A time in UTC, to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def listing(counts: Sequence[Count], letters: Sequence[Letter]) -> dict[str, Any]:
    """What `list --json` writes."""
    return {
        "matching": sum(count.letters for count in counts),
        "counts": [
            {"code": c.code, "sink": c.sink, "status": c.status, "letters": c.letters, "oldest": iso(c.oldest)}
            for c in counts
        ],
        "letters": [as_json(letter) for letter in letters],
    }


def as_json(letter: Letter) -> dict[str, Any]:
    """A letter as JSON, its message left out."""
    return {
        "id": str(letter.id),
        "kafka_ts": iso(letter.kafka_ts),
        "code": letter.code,
        "detail": letter.detail,
        "sink": letter.sink or TRANSFORM,
        "attempts": letter.attempts,
        "batch_id": letter.batch_id,
        "status": letter.status,
        "history": [{**action._asdict(), "at": iso(action.at)} for action in letter.history],
    }


def iso(at: datetime) -> str:
    """A time as ISO 8601 in UTC."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
