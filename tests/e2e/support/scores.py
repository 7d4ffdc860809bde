"""The score rules once more, in plain Python and exact arithmetic: shares nothing with the pipeline."""

from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache

UNITS_PER_POINT = 100_000
_TENTHS = {"play": 10, "pause": 5, "finish": 30, "click": 3}
_FULL = 10_000
_CENT = Decimal("0.01")
_REMEMBERED = 1 << 18
"""Pairs: whoever waits looks at the same rows again and again."""


@lru_cache(_REMEMBERED)
def percentage(duration_ms: int | None, length_seconds: int | None) -> Decimal | None:
    """How much of a content an event covers, in per cent with two decimals; None without a usable length."""
    if duration_ms is None or length_seconds is None or length_seconds <= 0:
        return None
    return (Decimal(duration_ms) / (10 * Decimal(length_seconds))).quantize(_CENT, ROUND_HALF_UP)


def units(event_type: str, percent: Decimal | None) -> int:
    """Score in 1e-5 points."""
    return _TENTHS[event_type] * (_FULL + min(int((percent or Decimal(0)) * 100), _FULL))
