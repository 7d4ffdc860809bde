"""Rules between settings, each a sentence that names the settings it is about. Pure."""

from collections.abc import Iterator

from engagement.settings.model import Settings
from engagement.settings.urls import is_loopback, other_brokers, remote_sslmode


def broken(settings: Settings) -> Iterator[str]:
    """Yield one sentence for each rule that these settings break."""
    yield from _redis(settings)
    yield from _kafka(settings)
    yield from _others(settings)


def doubtful(settings: Settings) -> Iterator[str]:
    """Yield one sentence for each combination that works but is probably not meant."""
    if settings.kafka.security_protocol == "SASL_PLAINTEXT":
        yield "KAFKA_SECURITY_PROTOCOL = SASL_PLAINTEXT sends data unencrypted; SASL_SSL does not"
    if settings.monitoring.metrics_host not in ("127.0.0.1", "::1", "localhost"):
        yield "METRICS_HOST is not loopback: whoever reaches this machine can read the figures"
    yield from _in_the_open(settings)


def _in_the_open(settings: Settings) -> Iterator[str]:
    """What anybody between two machines could read or forge."""
    kafka, redis_url = settings.kafka, settings.redis.url.get_secret_value()
    others = other_brokers(kafka.bootstrap_servers)
    if others and kafka.security_protocol == "PLAINTEXT":
        yield f"KAFKA_SECURITY_PROTOCOL = PLAINTEXT sends events unencrypted to {', '.join(others)}; SASL_SSL does not"
    if redis_url.startswith("redis://") and not is_loopback(redis_url):
        yield "REDIS_URL is redis:// to another machine: the password and the data travel unencrypted; use rediss://"
    sslmode = remote_sslmode(settings.postgres.database_url.get_secret_value())
    if sslmode in ("disable", "allow", "prefer"):
        yield (
            f"DATABASE_URL leads to another machine, and its sslmode is {sslmode}: the password and the data may "
            "travel unencrypted; use verify-full"
        )
    elif sslmode in ("require", "verify-ca"):
        yield (
            f"DATABASE_URL leads to another machine, and its sslmode is {sslmode}: the name of who answers is not "
            "checked; use verify-full"
        )


def _redis(settings: Settings) -> Iterator[str]:
    redis = settings.redis
    if redis.aggregation_ttl_seconds <= redis.window_seconds:
        yield (
            f"REDIS_AGGREGATION_TTL_SECONDS ({redis.aggregation_ttl_seconds}) must be longer than the window of "
            f"REDIS_AGGREGATION_WINDOW_MINUTES ({redis.window_seconds} s): statistics would vanish while they count"
        )
    if redis.top_key.startswith(("content_stats:", "content_meta:", "recent_events:", "event:", "engagement:")):
        yield f"REDIS_TOP_CONTENT_KEY ({redis.top_key}) begins like one of the job's own keys"


def _kafka(settings: Settings) -> Iterator[str]:
    kafka = settings.kafka
    if kafka.security_protocol.startswith("SASL"):
        if not kafka.sasl_username:
            yield f"KAFKA_SECURITY_SASL_USERNAME is needed for KAFKA_SECURITY_PROTOCOL = {kafka.security_protocol}"
        if not kafka.sasl_password.get_secret_value():
            yield f"KAFKA_SECURITY_SASL_PASSWORD is needed for KAFKA_SECURITY_PROTOCOL = {kafka.security_protocol}"
    elif kafka.sasl_username:
        yield f"KAFKA_SECURITY_SASL_USERNAME is set, but KAFKA_SECURITY_PROTOCOL is {kafka.security_protocol}"


def _others(settings: Settings) -> Iterator[str]:
    processing, backfill, url = settings.processing, settings.backfill, settings.external.url
    if url.startswith("http://") and not is_loopback(url):
        yield "EXTERNAL_SYSTEM_URL is http:// to another machine: events and the token would travel unencrypted"
    if processing.max_processing_time_seconds <= processing.interval_seconds:
        yield (
            f"MAX_PROCESSING_TIME_SECONDS ({processing.max_processing_time_seconds:g}) must be longer than "
            f"PROCESSING_INTERVAL_SECONDS ({processing.interval_seconds:g})"
        )
    if backfill.start_date and backfill.end_date and backfill.start_date >= backfill.end_date:
        yield (
            f"BACKFILL_START_DATE ({backfill.start_date}) must lie before BACKFILL_END_DATE ({backfill.end_date}), "
            "which is the day after the last"
        )
