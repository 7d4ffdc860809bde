"""An upper bound that no total in Redis may ever exceed: every row version that was about to be committed."""

import threading
from collections import defaultdict
from datetime import datetime

from tests.e2e.support.oracle import STEP_SECONDS
from tests.e2e.support.scores import percentage, units

_Version = tuple[str, int | None]


class Ledger:
    """Rows by content and window step. A version is noted before its commit, so the bound is never too low."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._versions: dict[str, dict[int, dict[int, set[_Version]]]] = defaultdict(dict)
        self._bounds: dict[tuple[str, int], tuple[int, int]] = {}
        self._lengths: dict[str, set[int | None]] = defaultdict(set)

    def note(
        self, event_id: int, content_id: str | None, event_type: str, event_ts: datetime, duration_ms: int | None
    ) -> None:
        """A row is about to hold this."""
        if content_id is None or (duration_ms is not None and duration_ms < 0):
            return
        step = int(event_ts.timestamp()) // STEP_SECONDS
        with self._lock:
            rows = self._versions[content_id].setdefault(step, {})
            rows.setdefault(event_id, set()).add((event_type, duration_ms))
            self._bounds.pop((content_id, step), None)

    def note_length(self, content_id: str, length_seconds: int | None) -> None:
        """A content is about to have this length."""
        with self._lock:
            self._lengths[content_id].add(length_seconds)
            for key in [key for key in self._bounds if key[0] == content_id]:
                del self._bounds[key]

    def bound(self, content_id: str, start: datetime, end: datetime) -> tuple[int, int]:
        """The most (events, units) that a window can hold."""
        first, last = (int(moment.timestamp()) // STEP_SECONDS for moment in (start, end))
        with self._lock:
            steps = [step for step in self._versions.get(content_id, {}) if first <= step < last]
            each = [self._of_step(content_id, step) for step in steps]
        return sum(events for events, _ in each), sum(most for _, most in each)

    def _of_step(self, content_id: str, step: int) -> tuple[int, int]:
        key = (content_id, step)
        if key not in self._bounds:
            rows = self._versions[content_id][step]
            lengths = self._lengths[content_id] | {None}
            most = sum(
                max(units(kind, percentage(duration, length)) for kind, duration in versions for length in lengths)
                for versions in rows.values()
            )
            self._bounds[key] = (len(rows), most)
        return self._bounds[key]
