"""The frames that cross module borders: column names, types, units and what NULL means. No logic lives here."""

from enum import StrEnum

from pyspark.sql import types as T


class DeadLetterCode(StrEnum):
    """Why a message or an event was not accepted; members stand in the order in which the checks are made."""

    E_TOO_LARGE = "E_TOO_LARGE"
    E_UTF8 = "E_UTF8"
    E_JSON = "E_JSON"
    E_JSON_STRICT = "E_JSON_STRICT"
    E_ENVELOPE = "E_ENVELOPE"
    E_ID = "E_ID"
    E_UUID = "E_UUID"
    E_EVENT_TYPE = "E_EVENT_TYPE"
    E_TS = "E_TS"
    E_TS_FUTURE = "E_TS_FUTURE"
    E_TS_RANGE = "E_TS_RANGE"
    E_TYPE_DURATION = "E_TYPE_DURATION"
    E_RANGE_DURATION = "E_RANGE_DURATION"
    E_HTTP_REJECT = "E_HTTP_REJECT"
    """The external receiver refused it. This code and the next are a sink's; all others come from the transform."""
    E_WAREHOUSE_REJECT = "E_WAREHOUSE_REJECT"
    """BigQuery refused it: the reason is BigQuery's."""


class Kind(StrEnum):
    """What became of a message, in `IMAGES.kind`."""

    CHANGE = "change"
    """A row version (or, with is_version false, the row before it)."""
    DEAD_LETTER = "dead_letter"
    """Refused: `code` and `detail` say why, `raw_value` holds the bytes."""
    TOMBSTONE = "tombstone"
    """A null value: counted and skipped."""
    MOVE = "move"
    """A `d` whose row lives on under another key: Redis takes it back, every other sink skips it."""


SNAPSHOT = "r"
"""`op` of a row that a snapshot read. Such rows all name the place where it was taken, and no time of their own."""
DELETION = "d"
"""`op` of a row's deletion."""
TRUNCATE = "t"
"""`op` of the dead letter that says that the table was emptied: no message follows for the rows that it held."""
EVENT_TYPES = ("play", "pause", "finish", "click")
REPLAY_OF = "engagement.replay_of"
"""Header of a dead letter that is sent again: the offset, in the same partition, of the message it stands for."""
TABLE_TOPIC = "postgresql.engagement_events"
"""What stands for the topic on dead letters of rows that were read from the table; their offset is the row's id."""
ROW_COLUMNS = ("id", "content_id", "user_id", "event_type", "event_ts", "duration_ms", "device", "raw_payload")
"""The columns of engagement_events, in table order, which is also the order of the checks."""


def _fields(*columns: tuple[str, T.DataType]) -> list[T.StructField]:
    return [T.StructField(name, kind, nullable=True) for name, kind in columns]


_TEXT, _LONG, _INT, _TIME = T.StringType(), T.LongType(), T.IntegerType(), T.TimestampType()

MESSAGES = T.StructType(
    _fields(
        ("key", T.BinaryType()),  # content_id as text; not read
        ("value", T.BinaryType()),  # Debezium envelope or flat row as JSON; NULL is a tombstone
        ("topic", _TEXT),
        ("partition", _INT),
        ("offset", _LONG),  # NULL for rows that backfill read from the table: they get version 0 and op r
        ("timestamp", _TIME),  # Kafka time; for backfill the time at which the chunk was read
        ("headers", T.ArrayType(T.StructType(_fields(("key", _TEXT), ("value", T.BinaryType()))))),
    )
)
"""Spark's Kafka frame with includeHeaders, as far as the transform looks at it."""

NARROW_MESSAGES = T.StructType(
    [
        *_fields(("topic", _TEXT), ("partition", _INT), ("offset", _LONG), ("timestamp", _TIME)),
        *_fields(("value", T.BinaryType())),
        *_fields(("header_names_json", _TEXT)),  # a JSON array of names; NULL without headers
        *_fields(("replay_of", _LONG)),  # value of the header REPLAY_OF; NULL for all but replays
    ]
)
"""MESSAGES without what nobody reads.

Names of headers travel as text: Java's Arrow writes a list's run of NULLs in a time that grows with its square, and few
messages have headers. That was four fifths of the time that a backlog took on its way to Python.
"""

TABLE_ROWS = T.StructType(
    _fields(
        ("id", _LONG),
        ("content_id", _TEXT),  # UUID in lower case
        ("user_id", _TEXT),
        ("event_type", _TEXT),
        ("event_us", _LONG),  # event_ts in microseconds since 1970; NULL for the infinite times
        ("duration_ms", _INT),
        ("device", _TEXT),
        ("raw_payload", _TEXT),  # JSON
        ("read_ts", _TIME),  # when the chunk was read
    )
)
"""Rows of engagement_events as backfill reads them from the table; the database's own types vouch for each column."""

CONTENT = T.StructType(
    _fields(
        ("content_id", _TEXT),  # UUID in lower case, unique
        ("slug", _TEXT),
        ("title", _TEXT),
        ("content_type", _TEXT),  # podcast, newsletter, video
        ("length_seconds", _INT),  # seconds; NULL for a newsletter
        ("publish_ts", _TIME),
    )
)

_POSITION = _fields(
    ("topic", _TEXT),
    ("kafka_partition", _INT),
    ("kafka_offset", _LONG),
    ("kafka_ts", _TIME),
)

IMAGES = T.StructType(
    [
        *_POSITION,
        *_fields(
            ("kind", _TEXT),  # Kind
            ("code", _TEXT),  # DeadLetterCode; NULL unless kind is dead_letter
            ("detail", _TEXT),  # a short reason that never quotes the payload; NULL like code
            ("raw_value", T.BinaryType()),  # the message's bytes; NULL unless kind is dead_letter
            ("header_names", T.ArrayType(_TEXT)),  # of its headers; NULL unless kind is dead_letter
            ("is_version", T.BooleanType()),  # true on exactly one row per message; false on an update's `before`
            ("effect", _INT),  # +1 the image counts on the board, -1 it is taken back, 0 neither
            ("op", _TEXT),  # c, r, u, d; on dead letters also t (TRUNCATE), and NULL when none of these was given
            ("version", _LONG),  # source.lsn; offset + 1 for a flat row; 0 for backfill rows
            ("commit_lsn", _LONG),  # first of source.sequence; NULL for flat rows and where Debezium had none
            ("lsn", _LONG),  # second of source.sequence, else source.lsn; NULL for flat rows
            ("source_ts_ms", _LONG),  # commit time in the source, ms since 1970; NULL when absent
            ("half", _INT),  # 0 for a move's `d`, 1 else: a move's two messages share (commit_lsn, lsn)
            ("replay_of", _LONG),  # offset of the refused message whose place it takes, at most its own; else NULL
            ("event_id", _LONG),  # NULL for tombstones and where the id itself is bad
            ("content_id", _TEXT),  # UUID in lower case; this and all below are NULL on dead letters
            ("user_id", _TEXT),
            ("event_type", _TEXT),  # NULL only for a `d` whose `before` holds no valid one; so are those below
            ("event_ts", _TIME),  # on a dead letter only where its row is valid as a later `before`
            ("duration_ms", _INT),  # milliseconds, >= 0; NULL for a click
            ("device", _TEXT),
            ("raw_payload", _TEXT),  # as received; JSON objects embedded in the message come compact
        ),
    ]
)
"""What decoding gives: one row per message, and a second one for an update's valid `before`."""

ENRICHMENT = T.StructType(
    [
        *[field for field in CONTENT if field.name != "content_id"],  # NULL when content_id is NULL or unknown
        *_fields(
            ("engagement_seconds", T.DecimalType(12, 3)),  # duration_ms / 1000, exact
            ("engagement_pct", T.DecimalType(14, 2)),  # a percentage, 0.. (not a ratio), half up
            ("flags", T.ArrayType(_TEXT)),  # any of scoring.FLAGS in that order; empty when there are none
            ("units", _LONG),  # score in 1e-5 points; NULL when event_type is NULL
        ),
    ]
)

CHANGES = T.StructType([*IMAGES, *ENRICHMENT])
"""What every sink starts from: IMAGES joined with content, and the computed columns."""

_TYPES = {field.name: field.dataType for field in CHANGES}

ENRICHED_EVENT = T.StructType(
    [
        *[
            T.StructField(name, _TYPES[name], nullable=True)
            for name in (
                *("event_id", "op", "version", "content_id", "user_id", "event_type", "device", "event_ts"),
                *("duration_ms", "slug", "title", "content_type", "length_seconds", "publish_ts"),
                *("engagement_seconds", "engagement_pct", "flags", "raw_payload"),
                *("kafka_partition", "kafka_offset", "kafka_ts"),
            )
        ],
        T.StructField("processed_ts", _TIME, nullable=True),
    ]
)
"""One row per row version: the public schema."""

DEAD_LETTER = T.StructType(
    [
        *_POSITION,
        *_fields(("raw_value", T.BinaryType()), ("header_names", T.ArrayType(_TEXT))),
        *_fields(("stage", _TEXT), ("code", _TEXT), ("detail", _TEXT)),
        *_fields(("replay_of", _LONG)),  # like IMAGES.replay_of; earlier releases had NULL, or any number
    ]
)
"""A refused message as the transform knows it; attempts, batch id and status are added where it is stored."""
