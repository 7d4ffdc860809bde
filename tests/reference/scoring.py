"""Enrichment of one event: contract section 3, in exact fractions."""

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction

_BASE = {"play": Fraction(1), "pause": Fraction(1, 2), "finish": Fraction(3), "click": Fraction(3, 10)}
_DAY_MS = 24 * 60 * 60 * 1000


@dataclass(frozen=True)
class Enrichment:
    """The computed columns of an event."""

    seconds: Decimal | None
    pct: Decimal | None
    units: int
    flags: tuple[str, ...]


def enrich(
    event_type: str, duration_ms: int | None, length_seconds: int | None, *, missing: bool = False, skewed: bool = False
) -> Enrichment:
    """What the contract says of an event; `missing`: its content is unknown, `skewed`: it is ahead of Kafka time."""
    pct = _pct(duration_ms, length_seconds)
    counted = min(Fraction(pct), Fraction(100)) if pct is not None else Fraction(0)
    units = _BASE[event_type] * (1 + counted / 100) * 100_000
    if units.denominator != 1:
        raise ArithmeticError("a score is a whole number of units")
    flags = {
        "over_100": pct is not None and pct > 100,
        "length_bad": length_seconds is not None and length_seconds <= 0,
        "content_missing": missing,
        "duration_suspect": duration_ms is not None and duration_ms > _DAY_MS,
        "ts_skewed": skewed,
    }
    seconds = None if duration_ms is None else Decimal(duration_ms).scaleb(-3)
    return Enrichment(seconds, pct, int(units), tuple(name for name, is_set in flags.items() if is_set))


def _pct(duration_ms: int | None, length_seconds: int | None) -> Decimal | None:
    if duration_ms is None or length_seconds is None or length_seconds <= 0:
        return None
    return half_up(Fraction(100 * duration_ms, 1000 * length_seconds))


def half_up(value: Fraction) -> Decimal:
    """A number with two decimals, halves away from zero."""
    # Enough digits to be exact where a half could lie: thousandths decide, and what is below them only breaks ties.
    thousandths, rest = divmod(value * 1000, 1)
    exact = Decimal(int(thousandths)).scaleb(-3) + (Decimal("0.0001") if rest else Decimal(0))
    return exact.quantize(Decimal("0.01"), ROUND_HALF_UP)
