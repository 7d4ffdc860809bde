"""Refused messages as rows of `dead_letters`, on Arrow."""

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql.pandas.types import to_arrow_schema

from engagement.schemas import Kind
from engagement.sinks.delta.files import days_of
from engagement.sinks.delta.tables import DEAD_LETTERS, KAFKA_DATE
from engagement.transform.enrich import DECODE_STAGE

LETTER_FILE: pa.Schema = to_arrow_schema(DEAD_LETTERS, timezone="UTC")
_NEW = "new"


def to_letters(changes: pa.RecordBatch, following: int, batch_id: str) -> pa.RecordBatch:
    """Messages that were refused, at `following` or above. In: CHANGES. Out: LETTER_FILE, new and tried once."""
    refused = pc.equal(changes.column("kind"), str(Kind.DEAD_LETTER))
    rows = changes.filter(pc.and_(refused, pc.greater_equal(changes.column("kafka_offset"), following)))
    given = {
        "stage": DECODE_STAGE,
        "sink": None,
        "attempts": 1,
        "batch_id": batch_id,
        "status": _NEW,
        "history": None,
        KAFKA_DATE: days_of(rows.column("kafka_ts")),
    }
    columns = [_column(rows, field, given) for field in LETTER_FILE]
    return pa.RecordBatch.from_arrays(columns, schema=LETTER_FILE)


def _column(rows: pa.RecordBatch, field: pa.Field, given: dict[str, object]) -> pa.Array:
    if field.name not in given:
        return rows.column(field.name).cast(field.type)
    value = given[field.name]
    if isinstance(value, pa.Array):
        return value
    return pa.array([value], field.type).take(pa.array([0] * len(rows), pa.int32()))
