"""The external system as the comparison sees it: by what the table of deliveries tells that it was sent.

An event that the receiver refused has its outcome there too, so it is not missing: it is a dead letter.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from engagement.reconcile.delta_side import DeltaSide
from engagement.schemas import DELETION
from engagement.sources.history import Span

_END = datetime(9999, 12, 31, tzinfo=UTC)


def remembered_span(span: Span | None, now: datetime, retention_days: int) -> Span | None:
    """The part of a range of event times whose deliveries cannot have been forgotten; None: all of time.

    >>> remembered_span(None, datetime(2025, 8, 31, tzinfo=UTC), 30).start.isoformat()
    '2025-08-02T00:00:00+00:00'
    """
    if not retention_days:
        return span
    # An event is delivered after it happened; a day is left for clocks and for the day under way.
    floor = now - timedelta(days=retention_days - 1)
    if span is None:
        return Span(floor, _END)
    return Span(max(span.start, floor), max(span.end, floor))


@dataclass(frozen=True)
class DeliveriesSide(DeltaSide):
    """What the receiver has been sent. A version that was sent twice is none too many: that is what its key is for."""

    has_copies: ClassVar[bool] = False

    def with_told(self, rows: DataFrame) -> DataFrame:
        """Add what each delivery tells of its row. Shuffle: none."""
        return rows.withColumns(
            {
                "high": F.col("digest_high"),
                "low": F.col("digest_low"),
                "event_us": F.unix_micros("event_ts"),
                "alive": F.col("op") != DELETION,
            }
        )
