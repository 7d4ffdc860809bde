"""Reads the totals about every second while faults happen: none may ever exceed what was committed."""

import threading
import time
from collections.abc import Mapping
from datetime import datetime
from types import TracebackType

from redis import Redis
from redis.exceptions import RedisError
from tests.e2e.support.ledger import Ledger
from tests.e2e.support.oracle import TOP_KEY
from tests.e2e.support.scores import UNITS_PER_POINT

_EVERY_SECONDS = 0.7


class Watcher:
    """Use as a context manager: leaving it without another error raises for what it saw."""

    def __init__(self, client: Redis, ledger: Ledger) -> None:
        self._client = client
        self._ledger = ledger
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self.looks = 0
        self.violations: list[str] = []
        self.ranking_sizes: list[tuple[float, int]] = []
        """(monotonic seconds, entries of the ranking) of every look."""

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if kind is None:
            assert not self.violations, "totals above anything committed:\n" + "\n".join(self.violations[:10])
            assert self.looks > 0, "Redis never answered the watcher"

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_SECONDS):
            try:
                self._look()
            except RedisError:
                continue

    def _look(self) -> None:
        keys = list(self._client.scan_iter("content_stats:*", count=1000))
        pipeline = self._client.pipeline(transaction=False)
        pipeline.zcard(TOP_KEY)
        for key in keys:
            pipeline.hgetall(key)
        size, *stats = pipeline.execute()
        self.ranking_sizes.append((time.monotonic(), size))
        for key, totals in zip(keys, stats, strict=True):
            if totals and (found := excess(self._ledger, str(key).removeprefix("content_stats:"), totals)):
                self.violations.append(found)
        self.looks += 1


def excess(ledger: Ledger, content_id: str, totals: Mapping[str, str]) -> str | None:
    """What a content shows beyond all that was ever about to be committed for its window."""
    start, end = (
        datetime.fromisoformat(totals[name].replace("Z", "+00:00")) for name in ("window_start", "window_end")
    )
    events, most = ledger.bound(content_id, start, end)
    if int(totals["events"]) <= events and float(totals["score"]) <= most / UNITS_PER_POINT:
        return None
    return (
        f"{content_id}: {totals['events']} events, score {totals['score']} in {start:%H:%M:%S}-{end:%H:%M:%S}; "
        f"at most {events} and {most / UNITS_PER_POINT} were ever committed"
    )
