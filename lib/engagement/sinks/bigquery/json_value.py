"""Payload text as something that BigQuery's JSON type takes, whatever it holds: one bad value would fail a commit."""

import json
import re
import sys
from typing import NoReturn

MAX_DEPTH = 500
"""BigQuery's limit for nested objects and arrays."""
_EXACT_DIGITS = 15
"""Decimal digits that a double holds for certain."""
_INTEGER_DIGITS = 20
_INT64_MIN, _UINT64_MAX = -(2**63), 2**64 - 1
_DIGITS = re.compile(r"[0-9]+")
_OPENING, _CLOSING = "[{", "]}"


def to_json_value(text: str | None) -> str | None:
    """JSON as it came; other text, and JSON that BigQuery cannot hold, as a JSON string; None stays NULL.

    >>> to_json_value('{"a": 1}'), to_json_value("plain"), to_json_value("NaN")
    ('{"a": 1}', '"plain"', '"NaN"')
    """
    if text is None or _is_taken(text):
        return text
    return json.dumps(text, ensure_ascii=False)


def _is_taken(text: str) -> bool:
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        return False
    try:
        document = _READER.decode(text)
        if "\\u" in text:
            # An escape that is half of a character fails here, as it does in BigQuery.
            json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False
    return True


def _depth(text: str) -> int:
    """The most brackets open at once; those within strings count too, which errs on the safe side."""
    depth = deepest = 0
    for character in text:
        if character in _OPENING:
            depth += 1
            deepest = max(deepest, depth)
        elif character in _CLOSING:
            depth -= 1
    return deepest


def _check_float(text: str) -> float:
    value = float(text)
    digits = "".join(_DIGITS.findall(text.lower().partition("e")[0]))
    # Below its smallest normal number a double holds fewer digits, down to none: 4e-324 would become 5e-324, 1e-400 0.
    held = abs(value) >= sys.float_info.min or not digits.strip("0")
    is_certain = held and len(digits) <= _EXACT_DIGITS
    if value in (float("inf"), float("-inf")) or not (is_certain or repr(value) == text):
        raise ValueError("not a double's own spelling")
    return value


def _check_integer(text: str) -> int:
    # Beyond 64 bits a number becomes a double, which would round it. Long ones take minutes to read.
    value = int(text) if len(text) <= _INTEGER_DIGITS else None
    if value is None or not _INT64_MIN <= value <= _UINT64_MAX:
        raise ValueError("no integer of 64 bits")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_READER = json.JSONDecoder(parse_float=_check_float, parse_int=_check_integer, parse_constant=_refuse_constant)
