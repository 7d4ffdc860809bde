"""Refused messages as rows of `dead_letters`, on Arrow."""

import pyarrow as pa
import pyarrow.compute as pc

from engagement.schemas import Kind
from engagement.sinks.delta.letters import LETTER_FILE
from engagement.transform.columns import repeated
from engagement.transform.enrich import DECODE_STAGE

_NEW = "new"


def to_letters(changes: pa.RecordBatch, following: int, batch_id: str) -> pa.RecordBatch:
    """Messages that were refused, at `following` or above. In: CHANGES. Out: LETTER_FILE, new and tried once."""
    refused = pc.equal(changes.column("kind"), str(Kind.DEAD_LETTER))
    rows = changes.filter(pc.and_(refused, pc.greater_equal(changes.column("kafka_offset"), following)))
    given: dict[str, object] = {
        "stage": DECODE_STAGE,
        "sink": None,
        "attempts": 1,
        "batch_id": batch_id,
        "status": _NEW,
        "history": None,
    }
    columns = [_column(rows, field, given) for field in LETTER_FILE]
    return pa.RecordBatch.from_arrays(columns, schema=LETTER_FILE)


def _column(rows: pa.RecordBatch, field: pa.Field, given: dict[str, object]) -> pa.Array:
    if field.name not in given:
        return rows.column(field.name).cast(field.type)
    return repeated(given[field.name], field.type, len(rows))
