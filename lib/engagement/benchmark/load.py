"""Requests at a steady rate to the monitoring API, each timed from the moment it was due, and a page that is open."""

import http.client
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit

from engagement.meanwhile import meanwhile

TIMEOUT_SECONDS = 5.0
SCRAPE_SECONDS = 2.0
WORKERS = 16
"""Connections kept open; with answers below 50 ms four would do for 200 requests a second."""


@dataclass
class Latencies:
    """Seconds by path, and answers that were none of 200 and 503."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    failures: int = 0

    def p99_ms(self) -> dict[str, float]:
        """The 99 % quantile of each path, in milliseconds."""
        ordered = {path: sorted(values) for path, values in self.seconds.items()}
        return {path: round(values[int(0.99 * len(values))] * 1000, 1) for path, values in ordered.items()}


class SteadyLoad:
    """`rate` requests per second over all paths in turn; a slow answer delays only the worker that waits for it."""

    def __init__(self, url: str, paths: Callable[[], Sequence[tuple[str, str]]], rate: float) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._paths, self._rate = paths, rate
        self._lock = threading.Lock()
        self.latencies = Latencies()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Ask for as long as the context lasts."""
        paths, began = self._paths(), time.monotonic()
        workers = [partial(self._work, paths, began, number) for number in range(WORKERS)]
        with meanwhile(*workers, limit_seconds=2 * TIMEOUT_SECONDS):
            yield

    def _work(self, paths: Sequence[tuple[str, str]], began: float, number: int, stop: threading.Event) -> None:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_SECONDS)
        turn = number
        while not stop.wait(max(0.0, began + turn / self._rate - time.monotonic())):
            name, path = paths[turn % len(paths)]
            due = began + turn / self._rate
            turn += WORKERS
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                answer.read()
                good = answer.status in (http.client.OK, http.client.SERVICE_UNAVAILABLE)
            except (OSError, http.client.HTTPException):
                connection.close()
                good = False
            with self._lock:
                self.latencies.seconds.setdefault(name, []).append(time.monotonic() - due)
                self.latencies.failures += not good
        connection.close()


@contextmanager
def scraped_and_watched(url: str) -> Iterator[None]:
    """A Prometheus that scrapes, and one page that is open: what monitoring costs in daily life."""
    parts = urlsplit(url)

    def connect() -> http.client.HTTPConnection:
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_SECONDS)

    def scrape(stop: threading.Event) -> None:
        while not stop.wait(SCRAPE_SECONDS):
            connection = connect()
            connection.request("GET", "/metrics/prometheus")
            connection.getresponse().read()
            connection.close()

    def watch(stop: threading.Event) -> None:
        connection = connect()
        connection.request("GET", "/live")
        answer = connection.getresponse()
        while not stop.is_set() and answer.readline():
            pass
        connection.close()

    with meanwhile(scrape, watch, limit_seconds=TIMEOUT_SECONDS):
        yield
