"""The one home of base scores, rounding, NULL rules and flags, for one event and for Arrow columns of events.

Percentages are kept as whole hundredths of a percent and scores as whole units of 1e-5 points, so that adding and
subtracting never drifts and Spark, Redis and the tests cannot round differently.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

BASE_TENTHS = {"play": 10, "pause": 5, "finish": 30, "click": 3}
"""Base score per event type, in tenths of a point."""
UNITS_PER_POINT = 100_000
FULL_HUNDREDTHS = 10_000
"""100 %, in hundredths of a percent; what lies above it earns nothing."""
DAY_MS = 86_400_000
"""A duration above this (ms) is suspect."""
FLAGS = ("over_100", "length_bad", "content_missing", "duration_suspect", "ts_skewed")
"""All flags, in the order in which an event lists them."""

_HUNDREDTHS_PER_MS = 10  # 100 % * 100 hundredths / 1000 ms


def pct_hundredths(duration_ms: int | None, length_seconds: int | None) -> int | None:
    """Share of the content's length in hundredths of a percent, rounded half up; None where the contract says NULL.

    >>> pct_hundredths(30_000, 60), pct_hundredths(1, 2_000), pct_hundredths(5, 0), pct_hundredths(None, 60)
    (5000, 0, None, None)
    >>> pct_hundredths(1, 20)
    1
    """
    if duration_ms is None or length_seconds is None or length_seconds <= 0:
        return None
    return (2 * _HUNDREDTHS_PER_MS * duration_ms + length_seconds) // (2 * length_seconds)


def score_units(event_type: str, hundredths: int | None) -> int:
    """Score of one event in units of 1e-5 points.

    >>> score_units("play", None), score_units("finish", 5_000), score_units("click", 25_000)
    (100000, 450000, 60000)
    """
    return BASE_TENTHS[event_type] * (FULL_HUNDREDTHS + min(hundredths or 0, FULL_HUNDREDTHS))


def pct_hundredths_column(duration_ms: pa.Array, length_seconds: pa.Array) -> pa.Array:
    """`pct_hundredths` of int64 columns; `duration_ms` must not be negative."""
    # A NULL divisor instead of a guarded division: a zero would raise.
    length = pc.if_else(pc.greater(length_seconds, 0), length_seconds, pa.scalar(None, pa.int64()))
    scaled = pc.multiply(duration_ms, 2 * _HUNDREDTHS_PER_MS)
    return pc.divide(pc.add(scaled, length), pc.multiply(length, 2))


def score_units_column(event_type: pa.Array, hundredths: pa.Array) -> pa.Array:
    """`score_units` as int64; NULL when the event type is NULL or unknown."""
    tenths = pa.array(BASE_TENTHS.values(), pa.int64()).take(pc.index_in(event_type, pa.array(BASE_TENTHS)))
    capped = pc.min_element_wise(pc.coalesce(hundredths, 0), FULL_HUNDREDTHS)
    return pc.multiply(tenths, pc.add(capped, FULL_HUNDREDTHS))


def flags_column(
    over_100: pa.Array, length_bad: pa.Array, content_missing: pa.Array, suspect: pa.Array, skewed: pa.Array
) -> pa.Array:
    """The names of the flags that are true, in the order of FLAGS, as lists; never NULL. NULL conditions are false."""
    conditions = (over_100, length_bad, content_missing, suspect, skewed)
    raised = np.stack([c.fill_null(False).to_numpy(zero_copy_only=False) for c in conditions], axis=1)
    offsets = np.concatenate(([0], np.cumsum(raised.sum(axis=1))))
    _, flags = np.nonzero(raised)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(FLAGS).take(pa.array(flags)))
