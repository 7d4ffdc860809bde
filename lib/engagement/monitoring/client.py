"""The client that status and measures go through, both ways: nobody who writes or reads them waits long for Redis."""

from redis import BlockingConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from engagement.settings import RedisSettings

REDIS_SECONDS = 1.0


def redis_client(redis: RedisSettings) -> Redis:
    """Return a client that gives up after a second and connects again by itself; opens nothing yet."""
    url = redis.url.get_secret_value()
    # A socket file knows no TCP options, and its connection refuses them.
    keepalive = {} if url.startswith("unix:") else {"socket_keepalive": redis.socket_keepalive}
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=redis.max_connections,
        timeout=REDIS_SECONDS,
        socket_timeout=REDIS_SECONDS,
        socket_connect_timeout=REDIS_SECONDS,
        # One more try at once: a kept connection may have died with the Redis before this one.
        retry=Retry(NoBackoff(), 1),
        decode_responses=True,
        **keepalive,
    )
    return Redis.from_pool(pool)
