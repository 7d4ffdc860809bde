from pathlib import Path

import pytest
import redis

from engagement.errors import ConfigError
from engagement.settings import RedisSettings, SettingsFiles, load_settings

NOWHERE = SettingsFiles(Path("/nonexistent/project"))


def loaded(env: dict[str, str]) -> RedisSettings:
    return load_settings(env, NOWHERE).redis


@pytest.mark.parametrize(
    ("env", "url", "database"),
    [
        ({"REDIS_URL": "redis://cache:6379"}, "redis://cache:6379/0", 0),
        ({"REDIS_URL": "redis://cache:6379/3"}, "redis://cache:6379/3", 3),
        ({"REDIS_URL": "redis://cache:6379/0", "REDIS_DB": "2"}, "redis://cache:6379/2", 2),
        ({"REDIS_URL": "rediss://me:pw@cache", "REDIS_DB": "2"}, "rediss://me:pw@cache/2", 2),
        ({"REDIS_URL": "redis://[::1]:6379"}, "redis://[::1]:6379/0", 0),
        ({"REDIS_URL": "unix:///run/redis.sock"}, "unix:///run/redis.sock?db=0", 0),
        ({"REDIS_URL": "unix://:pw@/run/redis.sock?db=4"}, "unix://:pw@/run/redis.sock?db=4", 4),
    ],
)
def test_the_url_alone_connects_to_the_right_database(env: dict[str, str], url: str, database: int) -> None:
    settings = loaded(env)
    assert (settings.url.get_secret_value(), settings.db) == (url, database)
    pool = redis.ConnectionPool.from_url(settings.url.get_secret_value())
    assert pool.connection_kwargs["db"] == database


def test_two_different_databases_are_refused() -> None:
    with pytest.raises(ConfigError, match="disagree"):
        loaded({"REDIS_URL": "redis://cache/3", "REDIS_DB": "2"})
