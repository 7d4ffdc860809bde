"""The thread that keeps the status in Redis fresh while a query is idle or busy with one long batch."""

import threading
from collections.abc import Sequence

from redis import Redis

from engagement.monitoring.board import FLUSH_INTERVAL_SECONDS, StatusBoard


class StatusPublisher:
    """A daemon thread that flushes boards once a second, so that an idle query still shows that its process lives."""

    def __init__(self, boards: Sequence[StatusBoard], client: Redis) -> None:
        self._boards, self._client = tuple(boards), client
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="status-publisher", daemon=True)

    def start(self) -> None:
        """Begin publishing."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and write each board once more so that its last state is seen."""
        self._stop.set()
        self._thread.join(timeout=2 * FLUSH_INTERVAL_SECONDS)
        for board in self._boards:
            board.flush(self._client, force=True)

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_INTERVAL_SECONDS):
            for board in self._boards:
                board.flush(self._client, force=True)
