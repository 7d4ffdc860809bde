"""The ranking's freshness, measured beside whatever a benchmark does."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
from redis import Redis

from engagement.demo.probe import FreshnessProbe
from engagement.settings import Settings

_PROBE_SECONDS = 0.3
"""So the 4,000 contents of the probe last for two windows; much faster, it would run out of those not yet ranked."""
_JOIN_SECONDS = 2.0
_TIMEOUT_SECONDS = 5


@contextmanager
def probing(
    settings: Settings, stop: threading.Event, every_seconds: float = _PROBE_SECONDS
) -> Iterator[FreshnessProbe]:
    """Commit rows for as long as the context lasts, and look for them in the ranking.

    Only afterwards does the probe have the samples of all of them: those still on their way are the slowest. Nobody
    waits for these after a failure, or once told to stop.
    """
    redis = Redis.from_url(
        settings.redis.url.get_secret_value(), decode_responses=True, socket_timeout=_TIMEOUT_SECONDS
    )
    database = settings.postgres.database_url.get_secret_value()
    probe = FreshnessProbe(
        lambda: psycopg2.connect(database, connect_timeout=_TIMEOUT_SECONDS),
        redis,
        settings.redis.top_key,
        every_seconds,
        time.monotonic,
    )
    done = threading.Event()
    thread = threading.Thread(target=probe.run, args=(done,), daemon=True)
    thread.start()
    try:
        yield probe
        done.set()
        probe.await_last(stop)
    finally:
        done.set()
        thread.join(_JOIN_SECONDS)
        redis.close()
