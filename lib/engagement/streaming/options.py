"""Settings as the sinks and the sources take them; what options hold travels to Spark's tasks."""

from datetime import UTC, datetime

from pyspark.sql import SparkSession

from engagement.project import PROJECT
from engagement.settings import BigQuerySettings, KafkaSettings, RedisSettings, Settings
from engagement.sinks.bigquery.client import WarehouseOptions
from engagement.sinks.redis.client import RedisOptions
from engagement.sources.content import ContentCatalogue, JdbcAddress
from engagement.sources.kafka import KafkaTopic


def kafka_topic(settings: KafkaSettings) -> KafkaTopic:
    """The topic as both client libraries see it."""
    return KafkaTopic(
        settings.topic,
        settings.bootstrap_servers,
        settings.group_id,
        settings.spark_options(),
        settings.client_properties(),
    )


def content_query() -> str:
    """How the contents are asked for."""
    return (PROJECT / "sql" / "postgres" / "read_content.sql").read_text()


def catalogue_of(settings: Settings, spark: SparkSession) -> ContentCatalogue:
    """The contents in PostgreSQL."""
    address = JdbcAddress.from_database_url(settings.postgres.database_url.get_secret_value())
    return ContentCatalogue(spark, address, content_query())


def redis_options(settings: RedisSettings) -> RedisOptions:
    """What the Redis sink needs to know, as it travels to Spark's tasks."""
    return RedisOptions(
        url=settings.url.get_secret_value(),
        max_connections=settings.max_connections,
        socket_keepalive=settings.socket_keepalive,
        window_seconds=settings.window_seconds,
        top_key=settings.top_key,
        top_size=settings.top_size,
        stats_ttl_seconds=settings.aggregation_ttl_seconds,
        event_ttl_seconds=settings.event_ttl_seconds,
    )


def warehouse_options(settings: BigQuerySettings) -> WarehouseOptions:
    """What the warehouse sink needs to know, as it travels to Spark's tasks."""
    return WarehouseOptions(
        project=settings.project,
        dataset=settings.dataset_id,
        table=settings.table_id,
        location=settings.location,
        credentials_file=settings.credentials,
        emulator=settings.emulator_host,
        emulator_grpc=settings.emulator_grpc,
    )


def now() -> datetime:
    """The wall clock, aware."""
    return datetime.now(UTC)
