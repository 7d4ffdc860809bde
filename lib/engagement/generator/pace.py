"""How many rows are due: an even open-loop pace, and a limit per day. Pure; the caller holds the clock."""

import math
from dataclasses import dataclass, replace
from datetime import date

STANDSTILL_SECONDS = 2.0
"""A commit that takes longer counts as a standstill."""


@dataclass(frozen=True)
class Pace:
    """Rows due since `start` (seconds of any clock) at `rate` rows a second, of which `sent` are done or let go.

    Open loop: a slow commit is made up for by the next ones, and never by more than was due. What a standstill longer
    than `forgive_seconds` would have brought is let go, as visitors of a dead site are: no burst follows it. A table
    that is only too slow stays that far behind, so that it is written to without a pause.
    """

    rate: float
    start: float
    sent: int = 0
    forgive_seconds: float = STANDSTILL_SECONDS
    looked: float = -math.inf
    """When rows were last done: from then to the next time pass a wait and a commit."""

    def due(self, now: float) -> int:
        """Return how many rows are to be sent now."""
        return max(0, int((now - self.start) * self.rate) - self.sent)

    def after(self, sent: int, now: float) -> "Pace":
        """Return the pace after `sent` more rows, done at `now`; what is too far behind by then is let go."""
        moved = replace(self, sent=self.sent + sent, looked=now)
        stood_still = now - max(self.start, self.looked) > self.forgive_seconds
        kept = 0 if stood_still else int(self.rate * self.forgive_seconds)
        return replace(moved, sent=moved.sent + max(0, moved.due(now) - kept))


@dataclass(frozen=True)
class DayLimit:
    """Rows that may still be sent on a UTC day; `limit` 0 is none, `used` counts what `day` already has."""

    limit: int
    day: date
    used: int = 0

    def left(self, day: date) -> int | None:
        """Return how many rows `day` may still take, None when there is no limit."""
        if not self.limit:
            return None
        return max(0, self.limit - (self.used if day == self.day else 0))

    def after(self, sent: int, day: date) -> "DayLimit":
        """Return the limit after `sent` more rows on `day`."""
        return replace(self, day=day, used=sent + (self.used if day == self.day else 0))
