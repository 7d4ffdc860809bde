"""Options of the Redis sink and one client per process: a Spark function's globals do not survive between tasks."""

import os
import threading
from dataclasses import dataclass, field

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 15.0

_clients: dict[tuple[int, "RedisOptions"], redis.Redis] = {}
_lock = threading.Lock()


@dataclass(frozen=True)
class RedisOptions:
    """What the sink needs to know; it travels to Spark's tasks, and its repr hides the address's password."""

    url: str = field(repr=False)
    max_connections: int = 50
    socket_keepalive: bool = True
    window_seconds: int = 600
    """Length of the sliding window, seconds, a multiple of 10."""
    top_key: str = "top_content_last_10min"
    top_size: int = 10_000
    stats_ttl_seconds: int = 900
    event_ttl_seconds: int = 0
    """Life of event:{id} hashes, seconds; 0 writes none."""


def client_for(options: RedisOptions) -> redis.Redis:
    """Give this process's client for these options; it connects when first used and answers with bytes."""
    key = (os.getpid(), options)
    with _lock:
        if key not in _clients:
            _clients[key] = connect(options)
        return _clients[key]


def connect(options: RedisOptions) -> redis.Redis:
    """Make a client that never sends a command twice by itself: who calls decides whether to try again."""
    keepalive = {} if options.url.startswith("unix:") else {"socket_keepalive": options.socket_keepalive}
    client: redis.Redis = redis.Redis.from_url(
        options.url,
        max_connections=options.max_connections,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        retry=Retry(NoBackoff(), 0),
        decode_responses=False,
        **keepalive,
    )
    return client
