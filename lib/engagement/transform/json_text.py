"""What JSON a message's bytes hold, or the code that refuses them. Knows nothing about envelopes or columns.

Every message is read by two parsers, once each: `from_json` reads the fields and, with a closing element behind the
value, sees trailing data; `try_parse_json` sees duplicate names at any depth, and JSON types. Neither can raise.
"""

from pyspark.sql import Column
from pyspark.sql import functions as F

from engagement.schemas import DeadLetterCode

MAX_BYTES = 1_048_576
MAX_DEPTH = 1_000
_END = 8_275_309_146
"""A number, since a number has one spelling: text can hide it behind escapes, digits cannot."""
_VALUE_AND_END = 2
_STRICT = {
    "allowSingleQuotes": "false",
    "allowNonNumericNumbers": "false",
    # One level more than the contract's limit: the array in which the value is wrapped.
    "maxNestingDepth": str(MAX_DEPTH + 1),
}

_ROW = (
    "id BIGINT, content_id STRING, user_id STRING, event_type STRING, event_ts STRING, duration_ms BIGINT, "
    "device STRING, raw_payload STRING"
)
_ENVELOPE = (
    f"op STRING, before STRUCT<{_ROW}>, after STRUCT<{_ROW}>, "
    f"source STRUCT<lsn BIGINT, ts_ms BIGINT, sequence STRING>, {_ROW}"
)
_DOCUMENT = f"ARRAY<STRUCT<payload STRUCT<{_ENVELOPE}>, {_ENVELOPE}, __end BIGINT>>"

# Java needs the possessive `*+`: it loops, where `*` would recurse once per character and overflow the stack.
_LEXICAL_STRING = r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+"'
_ESCAPED_BACKSLASH = r"\\\\"
_SURROGATE_PAIR = r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_SURROGATE = r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}"

Refusal = tuple[Column, DeadLetterCode, str]
"""A condition, and what it means when it is the first that holds."""


def readable_text(value: Column) -> Column:
    """The bytes as text, NULL when they are too large or no UTF-8."""
    return F.when((F.octet_length(value) <= MAX_BYTES) & F.is_valid_utf8(value.cast("string")), value.cast("string"))


def parse_fields(text: Column) -> Column:
    """The fields of envelope and row; NULL or incomplete when the text is not one JSON object (see `is_one_object`)."""
    wrapped = F.concat(F.lit("["), text, F.lit(f',{{"__end":{_END}}}]'))
    return F.from_json(wrapped, _DOCUMENT, _STRICT)


def is_one_object(text: Column, fields: Column, strict: Column) -> Column:
    """Whether the text is exactly one JSON object with unique names: nothing before it, nothing behind it."""
    ends = (F.size(fields) == _VALUE_AND_END) & (F.get(fields, F.lit(1))["__end"] == _END)
    # Text that brings the closing element itself could end the wrapping early, but not also one of another shape.
    in_object = F.concat(F.lit('{"v":'), text, F.lit("}"))
    honest = ~F.contains(text, F.lit(str(_END))) | F.try_parse_json(in_object).isNotNull()
    is_object = F.get(fields, F.lit(0)).isNotNull()
    return F.coalesce(strict.isNotNull() & is_object & ends & honest, F.lit(False))


def refusals(value: Column, text: Column, one_object: Column) -> list[Refusal]:
    """Why a message's bytes are refused, first match wins; looked at only for values that are not NULL."""
    return [
        (F.octet_length(value) > MAX_BYTES, DeadLetterCode.E_TOO_LARGE, "more than 1 MiB"),
        (text.isNull(), DeadLetterCode.E_UTF8, "bytes are no UTF-8"),
        (~one_object & _has_lone_surrogate(text), DeadLetterCode.E_UTF8, "unpaired surrogate escape"),
        (
            ~one_object & _starts_with_object(text),
            DeadLetterCode.E_JSON_STRICT,
            "duplicate names, or data behind the object",
        ),
        (~one_object, DeadLetterCode.E_JSON, "not one JSON object"),
    ]


def _has_lone_surrogate(text: Column) -> Column:
    # A blank for what is taken out, so that its neighbours do not become a pair.
    escapes = F.regexp_replace(text, _ESCAPED_BACKSLASH, " ")
    return F.regexp_replace(escapes, _SURROGATE_PAIR, " ").rlike(_SURROGATE)


def _starts_with_object(text: Column) -> Column:
    """Whether the text begins with a lexically right object, whatever follows it and however often names repeat.

    json_object_keys tolerates both, but also single quotes and control characters in strings: so right strings are
    emptied first (0x01 stands for them), and quotes that are left become a character that JSON knows nowhere.
    """
    blank = F.regexp_replace(F.translate(text, "\x01", "\x02"), _LEXICAL_STRING, "\x01")
    lexical = F.replace(F.translate(blank, "\"'", "##"), F.lit("\x01"), F.lit('""'))
    return F.json_object_keys(lexical).isNotNull()
