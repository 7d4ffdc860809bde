"""The one home of base scores, rounding, NULL rules and flags, as plain Python and as Spark columns.

Percentages are kept as whole hundredths of a percent and scores as whole units of 1e-5 points, so that adding and
subtracting never drifts and Spark, Redis and the tests cannot round differently.
"""

from decimal import Decimal

from pyspark.sql import Column
from pyspark.sql import functions as F

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


def points(units: int) -> Decimal:
    """The exact score in points.

    >>> points(450_000)
    Decimal('4.5')
    """
    return Decimal(units) / UNITS_PER_POINT


def pct_hundredths_column(duration_ms: Column, length_seconds: Column) -> Column:
    """`pct_hundredths` as BIGINT; `duration_ms` must not be negative."""
    # A NULL divisor instead of a guarded division: ANSI mode would fail the batch on a zero that a guard lets slip.
    length = F.when(length_seconds > 0, length_seconds.cast("bigint"))
    scaled = duration_ms.cast("bigint") * F.lit(2 * _HUNDREDTHS_PER_MS)
    return F.call_function("div", scaled + length, length * F.lit(2))


def score_units_column(event_type: Column, hundredths: Column) -> Column:
    """`score_units` as BIGINT; NULL when the event type is NULL or unknown."""
    (first, tenths), *others = BASE_TENTHS.items()
    base = F.when(event_type == first, F.lit(tenths).cast("bigint"))
    for name, tenths in others:
        base = base.when(event_type == name, F.lit(tenths).cast("bigint"))
    capped = F.least(F.coalesce(hundredths, F.lit(0)), F.lit(FULL_HUNDREDTHS).cast("bigint"))
    return base * (F.lit(FULL_HUNDREDTHS) + capped)


def flags_column(
    over_100: Column, length_bad: Column, content_missing: Column, suspect: Column, skewed: Column
) -> Column:
    """The names of the flags that are true, in the order of FLAGS; never NULL."""
    conditions = dict(zip(FLAGS, (over_100, length_bad, content_missing, suspect, skewed), strict=True))
    names = [F.when(condition, F.lit(name)) for name, condition in conditions.items()]
    # Nearly all events have none: the filter over the array is not compiled by Spark, so it runs only when needed.
    return F.when(F.coalesce(*names).isNull(), F.array().cast("array<string>")).otherwise(
        F.array_compact(F.array(*names))
    )
