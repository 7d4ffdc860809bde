"""Messages to row images: which row versions a message holds, and one outcome for every message.

Two `inline` steps divide the plan. The optimizer does not look through them: a filter on a result would otherwise be
pushed below the checks, and the JSON would be parsed twice.
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from engagement.schemas import IMAGES, ROW_COLUMNS, DeadLetterCode, Kind
from engagement.transform import json_text, validate
from engagement.transform.json_text import Refusal

_NEW_KEY, _OLD_KEY = "__debezium.newkey", "__debezium.oldkey"
_POSITION = ("topic", "kafka_partition", "kafka_offset", "kafka_ts")
_ENVELOPE = ("op", "before", "after", "source", *ROW_COLUMNS)
_CHANGE = ("op", "flat", "moved_away", "version", "commit_lsn", "lsn", "source_ts_ms")
_TRUNCATE_DETAIL = "op t: the table was truncated"


def decode_messages(messages: DataFrame) -> DataFrame:
    """Every message's outcome as row images.

    In: MESSAGES. Out: IMAGES. Rows: 1 -> 1, or 2 for an update whose `before` is valid: the version row first, then
    the row to take back. Order: kept within a partition. Shuffle: none. Never raises for a row, whatever its bytes.
    """
    rows = _list_rows(_read_change(_open_envelope(_parse(messages))))
    return _judge(rows).select(F.inline(F.when(F.col("kept"), F.array(_outcome()))))


def _parse(messages: DataFrame) -> DataFrame:
    """The message as text, fields and VARIANT, and the code that refuses what is not one JSON object."""
    value, text, header_names = F.col("value"), F.col("text"), F.col("headers")["key"]
    read = messages.select(
        "topic",
        F.col("partition").alias("kafka_partition"),
        F.col("offset").alias("kafka_offset"),
        F.col("timestamp").alias("kafka_ts"),
        "value",
        F.coalesce(F.array_contains(header_names, _NEW_KEY), F.lit(False)).alias("has_new_key"),
        F.coalesce(F.array_contains(header_names, _OLD_KEY), F.lit(False)).alias("has_old_key"),
        json_text.readable_text(value).alias("text"),
    )
    parsed = read.select("*", json_text.parse_fields(text).alias("fields"), F.try_parse_json(text).alias("json"))
    one_object = json_text.is_one_object(text, F.col("fields"), F.col("json"))
    opened = parsed.select("*", one_object.alias("one_object"), F.get("fields", F.lit(0)).alias("root"))
    root = F.col("root")
    wrapped = F.col("one_object") & root["payload"].isNotNull() & root["op"].isNull()
    return opened.select("*", wrapped.alias("wrapped"))


def _open_envelope(parsed: DataFrame) -> DataFrame:
    """The envelope's parts side by side, taken out of `payload` where the message comes with its schema."""
    root, one_object, wrapped = F.col("root"), F.col("one_object"), F.col("wrapped")
    parts = [F.when(wrapped, root["payload"][name]).when(one_object, root[name]).alias(name) for name in _ENVELOPE]
    payload = F.try_variant_get("json", "$.payload", "variant")
    bytes_refused = validate.first_refusal(json_text.refusals(F.col("value"), F.col("text"), one_object))
    return parsed.select(
        *_POSITION,
        *("value", "has_new_key", "has_old_key"),
        F.when(wrapped, payload).when(one_object, F.col("json")).alias("json"),
        F.when(F.col("value").isNotNull(), bytes_refused).alias("bytes_refused"),
        *parts,
    )


def _read_change(envelopes: DataFrame) -> DataFrame:
    """What the change is called and where it stands in the source's log, and whether it can be used at all."""
    op, source, offset = F.col("op"), F.col("source"), F.col("kafka_offset")
    flat = op.isNull() & F.col("before").isNull() & F.col("after").isNull() & source.isNull()
    flat_op = F.when(offset.isNull(), F.lit("r")).otherwise(F.lit("c"))
    # A row that moved here from another key is an update that left its `before` in the other partition.
    envelope_op = F.when((op == "c") & F.col("has_old_key"), F.lit("u")).otherwise(op)
    usable = F.col("bytes_refused").isNull() & F.col("value").isNotNull()
    first, second = (F.split_part(source["sequence"], F.lit('"'), F.lit(part)) for part in (2, 4))
    # Debezium's text is ["1","2"], or [null,"2"] before the first commit that the connector saw.
    paired = source["sequence"].startswith('["')
    return envelopes.select(
        "*",
        *(usable.alias("usable"), flat.alias("flat")),
        F.when(usable & flat, flat_op).when(usable, envelope_op).alias("change_op"),
        F.when(usable & flat, F.coalesce(offset + 1, F.lit(0).cast("bigint")))
        .otherwise(source["lsn"])
        .alias("version"),
        F.when(paired, first.try_cast("bigint")).alias("commit_lsn"),
        F.coalesce(F.when(paired, second).otherwise(first).try_cast("bigint"), source["lsn"]).alias("lsn"),
        source["ts_ms"].alias("source_ts_ms"),
    )


def _list_rows(changes: DataFrame) -> DataFrame:
    """One row per image: the message's own version, then the `before` of an update."""
    op, flat, usable = F.col("op"), F.col("flat"), F.col("usable")
    flat_row = F.struct(*ROW_COLUMNS)
    own = F.when(flat, flat_row).when(op == "d", F.col("before")).otherwise(_with_kept_values())
    before_json = F.try_variant_get("json", "$.before", "variant")
    own_json = (
        F.when(flat, F.col("json"))
        .when(op == "d", before_json)
        .otherwise(F.try_variant_get("json", "$.after", "variant"))
    )
    # A step of its own: inside the array below these would be planned and compiled once per branch.
    own_rows = changes.select(
        "*", F.when(usable, own).alias("own"), F.when(usable, own_json).alias("own_json"), before_json.alias("was_json")
    )
    version_row = _row(is_version=True, image=F.col("own"), json=F.col("own_json"))
    before_row = _row(is_version=False, image=F.col("before"), json=F.col("was_json"))
    is_update = usable & ~flat & (op == "u") & F.col("before").isNotNull()
    rows = F.when(is_update, F.array(version_row, before_row)).otherwise(F.array(version_row))
    return own_rows.select(
        *_POSITION,
        *("value", "bytes_refused", "usable", "has_new_key", "flat", F.col("change_op").alias("op")),
        *("version", "commit_lsn", "lsn", "source_ts_ms"),
        F.inline(rows),
    )


def _row(*, is_version: bool, image: Column, json: Column) -> Column:
    return F.struct(F.lit(is_version).alias("is_version"), image.alias("image"), json.alias("json"))


def _with_kept_values() -> Column:
    """`after`, with what Debezium left out of an update (a large value that did not change) taken from `before`."""
    before, after = F.col("before"), F.col("after")
    fields = []
    for name in ROW_COLUMNS:
        field = after[name]
        if name in validate.TOASTABLE:
            left_out = (field == validate.UNAVAILABLE) & before.isNotNull()
            field = F.when(left_out, before[name]).otherwise(field)
        fields.append(field.alias(name))
    return F.when(after.isNotNull(), F.struct(*fields))


def _envelope_refusals() -> list[Refusal]:
    op, flat, code = F.col("op"), F.col("flat"), DeadLetterCode.E_ENVELOPE
    no_columns = F.coalesce(*[F.col("image")[name].cast("string") for name in ROW_COLUMNS]).isNull()
    has_id = F.try_variant_get("json", "$.id", "variant").isNotNull()
    return [
        (flat & no_columns & ~has_id, code, "no row"),
        (op == "t", code, _TRUNCATE_DETAIL),
        (~flat & ~F.coalesce(op.isin("c", "r", "u", "d"), F.lit(False)), code, "op is missing or unknown"),
        (~flat & ~F.coalesce(F.col("version") > 0, F.lit(False)), code, "source.lsn is missing"),
        (F.col("image").isNull(), code, "no row"),
    ]


def _judge(rows: DataFrame) -> DataFrame:
    """Adds the refusal of each message and each image, and whether the row is kept."""
    image, op, is_version = F.col("image"), F.col("op"), F.col("is_version")
    parsed = rows.select("*", validate.parse_instant(image["event_ts"]).alias("event_ts"))
    checks = validate.refusals(image, F.col("json"), F.col("event_ts"), F.col("kafka_ts"), F.col("flat"))
    judged = parsed.select(
        "*",
        F.when(F.col("usable") & is_version, validate.first_refusal(_envelope_refusals())).alias("envelope_refused"),
        F.when(F.col("usable"), validate.first_refusal(checks)).alias("row_refused"),
        F.when(F.col("usable"), validate.first_refusal([validate.id_refusal(image)])).alias("id_refused"),
    )
    row = F.when(op == "d", F.col("id_refused")).otherwise(F.col("row_refused"))
    image_refused = F.coalesce("envelope_refused", "row_refused")
    return judged.select(
        "*",
        image_refused.alias("image_refused"),
        F.when(is_version, F.coalesce(F.col("bytes_refused"), F.col("envelope_refused"), row)).alias("refused"),
        (is_version | image_refused.isNull()).alias("kept"),
    )


def _outcome() -> Column:
    """The row as IMAGES has it."""
    refused, usable, is_version = F.col("refused").isNotNull(), F.col("usable"), F.col("is_version")
    move = usable & (F.col("op") == "d") & F.col("has_new_key")
    kind = (
        F.when(F.col("value").isNull(), F.lit(str(Kind.TOMBSTONE)))
        .when(refused, F.lit(str(Kind.DEAD_LETTER)))
        .when(move, F.lit(str(Kind.MOVE)))
        .otherwise(F.lit(str(Kind.CHANGE)))
    )
    nothing = refused | ~usable | F.col("image_refused").isNotNull()
    taken_back = ~is_version | (F.col("op") == "d")
    image = _clean_image(F.col("image"))
    computed = {
        "kind": kind,
        "code": validate.code_of(F.col("refused")),
        "detail": validate.detail_of(F.col("refused")),
        "raw_value": F.when(refused, F.col("value")),
        # Anything else would quote the payload; `t` stays, since a TRUNCATE raises an alarm of its own.
        "op": F.when(F.col("op").isin("c", "r", "u", "d", "t"), F.col("op")),
        "effect": F.when(nothing, F.lit(0)).when(taken_back, F.lit(-1)).otherwise(F.lit(1)),
        "half": F.when(move, F.lit(0)).otherwise(F.lit(1)),
        "event_id": F.when(F.col("image.id") > 0, F.col("image.id")),
        **{name: F.when(usable & ~refused, column) for name, column in image.items()},
    }
    return F.struct(*[computed.get(name, F.col(name)).alias(name) for name in IMAGES.names])


def _clean_image(image: Column) -> dict[str, Column]:
    """The columns of an image, each NULL where it is not valid: a deletion is delivered whatever else it holds."""
    event_ts, duration = F.col("event_ts"), image["duration_ms"]
    in_range = ~validate.is_ancient(event_ts) & ~validate.is_future(event_ts, F.col("kafka_ts"))
    return {
        **{name: F.when(validate.is_uuid(image[name]), F.lower(image[name])) for name in ("content_id", "user_id")},
        "event_type": F.when(validate.is_event_type(image["event_type"]), image["event_type"]),
        "event_ts": F.when(in_range, event_ts),
        "duration_ms": F.when(duration >= 0, duration.try_cast("int")),
        "device": F.when(validate.is_text_or_null(image, F.col("json"), "device"), image["device"]),
        "raw_payload": image["raw_payload"],
    }
