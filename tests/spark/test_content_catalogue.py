"""The contents as they are read from PostgreSQL, where it does not answer."""

import socket

import pytest
from pyspark.sql import SparkSession

from engagement.errors import TransientError
from engagement.sources.content import ContentCatalogue, JdbcAddress


def test_a_database_that_is_frozen_holds_nobody_up_for_longer_than_its_limit(spark: SparkSession) -> None:
    """A kernel accepts connections for a process that is stopped; the driver's own patience has no end."""
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        url = f"postgresql://u:p@127.0.0.1:{frozen.getsockname()[1]}/events"
        shorter = ContentCatalogue(
            spark, JdbcAddress.from_database_url(f"{url}?socketTimeout=1&loginTimeout=2"), "select 1"
        )
        with pytest.raises(TransientError, match="cannot be read"):
            shorter.load()
    limits = JdbcAddress.from_database_url(url).url
    assert all(limit in limits for limit in ("connectTimeout=10", "loginTimeout=10", "socketTimeout=30"))
