"""The checks of one row image, in the contract's order. Each is a named condition with a code and a short reason."""

from pyspark.sql import Column
from pyspark.sql import functions as F

from engagement.schemas import EVENT_TYPES, ROW_COLUMNS, DeadLetterCode
from engagement.transform.json_text import Refusal

UNAVAILABLE = "__debezium_unavailable_value"
"""What Debezium sends for a TOASTed value that an update did not touch."""
TOASTABLE = ("event_type", "device", "raw_payload")

REASONS: tuple[tuple[DeadLetterCode, str], ...] = (
    (DeadLetterCode.E_TOO_LARGE, "more than 1 MiB"),
    (DeadLetterCode.E_UTF8, "bytes are no UTF-8"),
    (DeadLetterCode.E_UTF8, "unpaired surrogate escape"),
    (DeadLetterCode.E_JSON_STRICT, "duplicate names, or data behind the object"),
    (DeadLetterCode.E_JSON, "not one JSON object"),
    (DeadLetterCode.E_ENVELOPE, "no row"),
    (DeadLetterCode.E_ENVELOPE, "op t: the table was truncated"),
    (DeadLetterCode.E_ENVELOPE, "op is missing or unknown"),
    (DeadLetterCode.E_ENVELOPE, "source.lsn is missing"),
    (DeadLetterCode.E_ENVELOPE, "a column's name is in the wrong case"),
    (DeadLetterCode.E_ENVELOPE, "a column is absent"),
    (DeadLetterCode.E_ENVELOPE, "a value is unavailable and there is no before that holds it"),
    (DeadLetterCode.E_ENVELOPE, "device is not text"),
    (DeadLetterCode.E_ID, "id is missing or no integer from 1 to 2^63-1"),
    (DeadLetterCode.E_UUID, "content_id is no UUID"),
    (DeadLetterCode.E_UUID, "user_id is no UUID"),
    (DeadLetterCode.E_EVENT_TYPE, "event_type is none of the four"),
    (DeadLetterCode.E_TS, "event_ts is no time with a zone"),
    (DeadLetterCode.E_TS_FUTURE, "event_ts is over 5 minutes ahead of Kafka time"),
    (DeadLetterCode.E_TS_RANGE, "event_ts is before 2000"),
    (DeadLetterCode.E_TYPE_DURATION, "duration_ms is no 32-bit integer"),
    (DeadLetterCode.E_RANGE_DURATION, "duration_ms is negative"),
)
"""Everything a message or row can be refused for; a rule that names something else fails when the plan is built."""
_NUMBER = {reason: number for number, reason in enumerate(REASONS)}

_INT_MAX, _INT_MIN = 2**31 - 1, -(2**31)
_UUID = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
_UUID_LENGTH = 36
_SEPARATOR = "\x1f"
# PostgreSQL has years beyond 9999 and before 1; Debezium writes them with a sign, as ISO 8601 does.
_INSTANT = (
    r"\A(?:[0-9]{4}|[+-][0-9]{4,6})-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?"
    r"(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)\z"
)


def parse_instant(text: Column) -> Column:
    """The UTC time (microseconds, finer digits cut) that ISO 8601 text with a zone names; NULL when it names none."""
    return F.try_to_timestamp(F.when(text.rlike(_INSTANT), text))


def refusals(image: Column, json: Column, event_ts: Column, kafka_ts: Column, flat: Column) -> list[Refusal]:
    """Why a row is refused, first match wins.

    Args:
        image: the row's fields as `json_text.parse_fields` gives them, NULL where absent, null or of another type.
        json: the same row as VARIANT, which tells these three apart.
        event_ts: `parse_instant` of the image's event_ts.
        kafka_ts: what E_TS_FUTURE compares with.
        flat: whether the row came without an envelope, and so may leave out columns that allow NULL.

    """
    return [
        *_shape_refusals(image, json, flat),
        id_refusal(image),
        (~_is_uuid_or_null(image["content_id"]), DeadLetterCode.E_UUID, "content_id is no UUID"),
        (~_is_uuid_or_null(image["user_id"]), DeadLetterCode.E_UUID, "user_id is no UUID"),
        (~is_event_type(image["event_type"]), DeadLetterCode.E_EVENT_TYPE, "event_type is none of the four"),
        (event_ts.isNull(), DeadLetterCode.E_TS, "event_ts is no time with a zone"),
        (is_future(event_ts, kafka_ts), DeadLetterCode.E_TS_FUTURE, "event_ts is over 5 minutes ahead of Kafka time"),
        (is_ancient(event_ts), DeadLetterCode.E_TS_RANGE, "event_ts is before 2000"),
        (_is_wrong_duration(image, json), DeadLetterCode.E_TYPE_DURATION, "duration_ms is no 32-bit integer"),
        (image["duration_ms"] < 0, DeadLetterCode.E_RANGE_DURATION, "duration_ms is negative"),
    ]


def id_refusal(image: Column) -> Refusal:
    """The check of the id, the only one that a deletion must pass."""
    return (
        ~F.coalesce(image["id"] > 0, F.lit(False)),
        DeadLetterCode.E_ID,
        "id is missing or no integer from 1 to 2^63-1",
    )


def first_refusal(rules: list[Refusal]) -> Column:
    """Number in REASONS of the first rule that holds, NULL when none does.

    A number, not code and text: every micro-batch plans these expressions anew, so what is carried must be small.
    """
    (condition, code, detail), *others = rules
    chain = F.when(condition, F.lit(_NUMBER[code, detail]))
    for condition, code, detail in others:
        chain = chain.when(condition, F.lit(_NUMBER[code, detail]))
    return chain


def code_of(refusal: Column) -> Column:
    """The dead letter code of a refusal's number; NULL for NULL."""
    return F.get(F.lit([str(code) for code, _ in REASONS]), refusal)


def detail_of(refusal: Column) -> Column:
    """The short reason of a refusal's number; NULL for NULL."""
    return F.get(F.lit([detail for _, detail in REASONS]), refusal)


def is_uuid(text: Column) -> Column:
    """Whether the text is a UUID in any letter case; NULL for NULL."""
    # The length as well, because `$` also matches before a line feed at the end.
    return (F.length(text) == _UUID_LENGTH) & text.rlike(_UUID)


def is_event_type(text: Column) -> Column:
    """Whether the text is one of the four types; false for NULL."""
    return F.coalesce(text.isin(*EVENT_TYPES), F.lit(False))


def is_future(event_ts: Column, kafka_ts: Column) -> Column:
    """Whether an event lies more than 5 minutes ahead of Kafka time."""
    return event_ts > kafka_ts + F.expr("INTERVAL 5 MINUTES")


def is_ancient(event_ts: Column) -> Column:
    """Whether an event lies before the year 2000, UTC."""
    return event_ts < F.expr("TIMESTAMP '2000-01-01 00:00:00Z'")


def is_text_or_null(image: Column, json: Column, column: str) -> Column:
    """Whether a column of a row is JSON text, null or absent."""
    # Other JSON shows as text too; only what begins like it is worth the slower look at the type.
    maybe_other = image[column].rlike(r'^[-0-9tf"\[{]')
    return F.coalesce(~maybe_other | (F.schema_of_variant(_member(json, column)) == "STRING"), F.lit(True))


def _is_uuid_or_null(text: Column) -> Column:
    return F.coalesce(is_uuid(text), F.lit(True))


def _is_wrong_duration(image: Column, json: Column) -> Column:
    given = _member(json, "duration_ms")
    no_integer = image["duration_ms"].isNull() & given.isNotNull() & ~F.is_variant_null(given)
    return no_integer | ~F.coalesce(image["duration_ms"].between(_INT_MIN, _INT_MAX), F.lit(True))


def _shape_refusals(image: Column, json: Column, flat: Column) -> list[Refusal]:
    placeholder = F.lit(False)
    for name in TOASTABLE:
        placeholder = placeholder | F.coalesce(image[name] == UNAVAILABLE, F.lit(False))
    absent = F.lit(False)
    for name in ROW_COLUMNS:
        absent = absent | _is_absent(image, json, name)
    absent_nullable = F.lit(False)
    for name in ROW_COLUMNS[1:]:
        absent_nullable = absent_nullable | _is_absent(image, json, name)
    code = DeadLetterCode.E_ENVELOPE
    return [
        (absent & _has_wrong_case(json), code, "a column's name is in the wrong case"),
        (~flat & absent_nullable, code, "a column is absent"),
        (placeholder, code, "a value is unavailable and there is no before that holds it"),
        (~is_text_or_null(image, json, "device"), code, "device is not text"),
    ]


def _member(json: Column, column: str) -> Column:
    return F.try_variant_get(json, f"$.{column}", "variant")


def _is_absent(image: Column, json: Column, column: str) -> Column:
    # The first half spares nearly every row the look into the VARIANT.
    return image[column].isNull() & _member(json, column).isNull()


def _has_wrong_case(json: Column) -> Column:
    # Joined, lowered and split again: a lambda over the names would keep this whole step from being compiled.
    names = F.json_object_keys(F.to_json(json))
    lowered = F.split(F.lower(F.array_join(names, _SEPARATOR)), _SEPARATOR)
    return F.arrays_overlap(lowered, F.array_except(F.lit(list(ROW_COLUMNS)), names))
