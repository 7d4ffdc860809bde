"""A content's totals: a commutative group of integers, so that adding and taking back never drifts."""

from decimal import ROUND_HALF_UP, Decimal
from typing import NamedTuple

import msgpack

from engagement.scoring import UNITS_PER_POINT

_HUNDREDTH = Decimal("0.01")


class Totals(NamedTuple):
    """Sums over a set of events; the order is the one the Lua scripts use. All integers, |x| < 2^53."""

    units: int = 0
    """Score in 1e-5 points."""
    events: int = 0
    play: int = 0
    pause: int = 0
    finish: int = 0
    click: int = 0
    duration_ms: int = 0
    pct_hundredths: int = 0
    """Sum of engagement_pct * 100 over the events that have one."""
    pct_count: int = 0

    def __add__(self, other: object) -> "Totals":
        """Add number by number (a tuple would be appended otherwise)."""
        if not isinstance(other, Totals):
            return NotImplemented
        return Totals(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def score(self) -> float:
        """Points."""
        return self.units / UNITS_PER_POINT

    @property
    def avg_engagement_pct(self) -> Decimal | None:
        """Mean percentage of the events that have one, 2 decimals, half up; None when there is none.

        >>> Totals(pct_hundredths=25, pct_count=2).avg_engagement_pct
        Decimal('0.13')
        """
        if self.pct_count <= 0:
            return None
        return (Decimal(self.pct_hundredths) / 100 / self.pct_count).quantize(_HUNDREDTH, ROUND_HALF_UP)

    @property
    def engagement_seconds(self) -> Decimal:
        """Exact seconds, 3 decimals."""
        return Decimal(self.duration_ms).scaleb(-3)


NOTHING = Totals()


def unpack_totals(packed: bytes) -> Totals:
    """Read what a script packed; b"" is nothing."""
    return Totals(*msgpack.unpackb(packed)[: len(Totals._fields)]) if packed else NOTHING
