"""Freshness of one sink: everything since the start, and the newest minute."""

from engagement.monitoring.histogram import (
    BUCKETS_SECONDS,
    RECENT_SLOT_SECONDS,
    RECENT_SLOTS,
    Histogram,
    RecentHistogram,
    estimate_quantile,
)
from engagement.monitoring.status import FreshnessStatus, RecentFreshness


class Freshness:
    """Two histograms of the same observations; the caller brings the lock and the time (monotonic seconds)."""

    def __init__(self) -> None:
        self._total, self._recent = Histogram(), RecentHistogram()

    def add(self, seconds: float, count: int, now: float) -> None:
        """Count `count` rows that took `seconds`."""
        self._total.add(seconds, count)
        self._recent.add(seconds, count, now)

    def recent(self, now: float) -> RecentFreshness:
        """The newest minute."""
        recent = self._recent.merged(now)
        return RecentFreshness(
            window_seconds=RECENT_SLOT_SECONDS * RECENT_SLOTS,
            count=sum(recent.counts),
            p50_seconds=estimate_quantile(recent.counts, 0.5),
            p95_seconds=estimate_quantile(recent.counts, 0.95),
            p99_seconds=estimate_quantile(recent.counts, 0.99),
        )

    def status(self, now: float) -> FreshnessStatus:
        """Both, as the status shows them."""
        return FreshnessStatus(
            buckets_seconds=BUCKETS_SECONDS,
            cumulative=self._total.cumulative(),
            sum_seconds=round(self._total.sum_seconds, 6),
            recent=self.recent(now),
        )
