"""Row images joined with their content, and what is computed from both."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engagement import scoring
from engagement.schemas import CHANGES
from engagement.transform.content import Contents

DECODE_STAGE = "decode"
_SECONDS, _PCT = pa.decimal128(12, 3), pa.decimal128(14, 2)


def enrich_batch(images: pa.RecordBatch, contents: Contents) -> pa.RecordBatch:
    """Images joined with their content, and the computed columns.

    In: IMAGES. Out: CHANGES. Rows: 1 -> 1. Order: kept. Never raises for a row.
    """
    places, found = contents.look_up(images.column("content_id"))
    columns = {name: batch.column(name) for batch in (images, found) for name in batch.schema.names}
    duration, length = (columns[name].cast(pa.int64()) for name in ("duration_ms", "length_seconds"))
    hundredths = scoring.pct_hundredths_column(duration, length)
    columns["engagement_seconds"] = _decimals(duration, _SECONDS)
    columns["engagement_pct"] = _decimals(hundredths, _PCT)
    columns["flags"] = scoring.flags_column(
        over_100=pc.greater(hundredths, scoring.FULL_HUNDREDTHS),
        length_bad=pc.less_equal(length, 0),
        content_missing=pc.and_(columns["content_id"].is_valid(), places.is_null()),
        suspect=pc.greater(duration, scoring.DAY_MS),
        skewed=pc.greater(columns["event_ts"], columns["kafka_ts"]),
    )
    columns["units"] = scoring.score_units_column(columns["event_type"], hundredths)
    return pa.RecordBatch.from_arrays([columns[name] for name in CHANGES.names], CHANGES.names)


def _decimals(unscaled: pa.Array, kind: pa.DataType) -> pa.Array:
    """Whole numbers, none negative, as decimals of a type's scale (1234 -> 12.34), by their bits: casting is slower."""
    halves = np.zeros((len(unscaled), 2), "<i8")
    halves[:, 0] = unscaled.fill_null(0).to_numpy()
    return pa.Array.from_buffers(kind, len(unscaled), [unscaled.is_valid().buffers()[1], pa.py_buffer(halves)])
