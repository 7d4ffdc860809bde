"""Every setting with its default, bounds and meaning, grouped by the part of the system that it concerns.

Must not live here: where values come from (sources.py), rules between settings (rules.py).
"""

from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Interval
from pydantic import AfterValidator, BeforeValidator, SecretStr, StringConstraints

from engagement.settings import parse
from engagement.settings.field import Section, setting
from engagement.settings.urls import receiver_url, web_url

Topic = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,200}$")]
Url = Annotated[str, AfterValidator(web_url)]
ReceiverUrl = Annotated[str, AfterValidator(receiver_url)]
UNSET = SecretStr("")
# Where emulators of BigQuery listen for gRPC unless they are told otherwise.
USUAL_GRPC_PORT = 9060
EMULATOR_PROJECT = "engagement"
"""The project that an emulator serves when BIGQUERY_PROJECT_ID names none."""


class PostgresSettings(Section):
    """The database the events come from."""

    database_url: Annotated[SecretStr, AfterValidator(parse.postgres)] = setting("DATABASE_URL", UNSET, secret=True)
    """Address of PostgreSQL, postgresql://user:password@host:port/database; empty when no command needs it."""
    pool_size: Annotated[int, Interval(ge=1, le=100)] = setting("DB_POOL_SIZE", 5)
    """Connections a process keeps open, 1..100."""
    max_overflow: Annotated[int, Interval(ge=0, le=100)] = setting("DB_MAX_OVERFLOW", 10)
    """Connections beyond the pool that are opened under load and closed after it, 0..100."""


class RedisSettings(Section):
    """The live ranking."""

    url: Annotated[SecretStr, AfterValidator(parse.redis)] = setting("REDIS_URL", UNSET, secret=True)
    """Address of Redis, redis://, rediss:// (TLS) or unix:// (socket file); always carries REDIS_DB once loaded."""
    db: Annotated[int, Interval(ge=0, le=1023)] = setting("REDIS_DB", 0)
    """Database number, 0..1023; when it is not set, the one in REDIS_URL."""
    max_connections: Annotated[int, Interval(ge=1, le=10_000)] = setting("REDIS_MAX_CONNECTIONS", 50)
    """Upper limit of a process's connection pool, 1..10000."""
    socket_keepalive: bool = setting("REDIS_SOCKET_KEEPALIVE", True)
    """Whether idle connections are kept alive by TCP."""
    window_minutes: Annotated[int, Interval(ge=1, le=1440)] = setting("REDIS_AGGREGATION_WINDOW_MINUTES", 10)
    """Length of the sliding window, whole minutes (so always full steps of 10 s), 1..1440."""
    top_key: Identifier = setting("REDIS_TOP_CONTENT_KEY", "top_content_last_10min")
    """Key of the ranking; letters, digits and _ . : -, at most 200."""
    top_size: Annotated[int, Interval(ge=1, le=1_000_000)] = setting("REDIS_TOP_CONTENT_SIZE", 10_000)
    """Contents kept in the ranking, 1..1000000."""
    aggregation_ttl_seconds: Annotated[int, Interval(ge=1, le=604_800)] = setting("REDIS_AGGREGATION_TTL_SECONDS", 900)
    """Life of a content's statistics after its last change, seconds; longer than the window, at most 7 days."""
    event_ttl_seconds: Annotated[int, Interval(ge=0, le=604_800)] = setting("REDIS_EVENT_TTL_SECONDS", 0)
    """Life of the single-event hashes, seconds, at most 7 days; 0 writes none."""

    @property
    def window_seconds(self) -> int:
        """Length of the sliding window in seconds."""
        return self.window_minutes * 60


class BigQuerySettings(Section):
    """The warehouse."""

    credentials: str = setting("GOOGLE_APPLICATION_CREDENTIALS", "")
    """Path of the service account's key file, on every worker too; empty: Google's default credentials there."""
    project_id: str = setting("BIGQUERY_PROJECT_ID", "")
    """Google Cloud project; empty: the emulator's."""
    dataset_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,1000}$")] = setting(
        "BIGQUERY_DATASET_ID", "engagement"
    )
    """Dataset, made on first start; letters, digits and _."""
    table_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,1000}$")] = setting(
        "BIGQUERY_TABLE_ID", "enriched_events"
    )
    """Table of enriched events; letters, digits and _."""
    location: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]+$")] = setting("BIGQUERY_LOCATION", "US")
    """Region of the dataset."""
    batch_size: Annotated[int, Interval(ge=1, le=50_000)] = setting("BIGQUERY_BATCH_SIZE", 1_000)
    """Waiting messages that make a flush due, 1..50000; looked for at least every 10 s."""
    max_batch_time_seconds: Annotated[float, Interval(ge=1, le=300)] = setting("BIGQUERY_MAX_BATCH_TIME_SECONDS", 30.0)
    """Seconds within which rows are visible even if fewer wait, 1..300."""
    emulator_host: str = setting("BIGQUERY_EMULATOR_HOST", "")
    """host:port of a BigQuery emulator's REST interface, which goes before a real project; empty: none."""
    emulator_grpc_host: str = setting("BIGQUERY_EMULATOR_GRPC_HOST", "")
    """host:port of its Storage Write API (gRPC); empty: the emulator's host, port 9060."""

    @property
    def project(self) -> str:
        """The project, the emulator's when none is named."""
        return self.project_id or EMULATOR_PROJECT

    @property
    def is_set(self) -> bool:
        """Whether there is a warehouse at all."""
        return bool(self.project_id or self.emulator_host)

    @property
    def emulator_grpc(self) -> str:
        """Where the emulator's Storage Write API is; empty without an emulator."""
        host = self.emulator_host.rpartition(":")[0] or self.emulator_host
        return self.emulator_grpc_host or (f"{host}:{USUAL_GRPC_PORT}" if host else "")


class LakeSettings(Section):
    """The Delta tables; LAKE_PATH says where they are."""

    interval_seconds: Annotated[float, Interval(ge=1, le=3600)] = setting("LAKE_INTERVAL_SECONDS", 30.0)
    """Seconds between the starts of two commits to the lake, 1..3600."""
    compact_files: Annotated[int, Interval(ge=0, le=10_000)] = setting("LAKE_COMPACT_FILES", 50)
    """Commits after which the small files of each day are rewritten as one, 0..10000; 0: never."""
    retention_hours: Annotated[int, AfterValidator(parse.lake_retention)] = setting("LAKE_RETENTION_HOURS", 168)
    """Hours after which files that only old versions need are deleted, once a day, at least 168; 0: never."""


class ExternalSettings(Section):
    """The partner system that receives every event over HTTP."""

    url: ReceiverUrl | Literal[""] = setting("EXTERNAL_SYSTEM_URL", "")
    """Address the events are posted to; empty: the sink is off."""
    token: Annotated[SecretStr, AfterValidator(parse.bearer_token)] = setting(
        "EXTERNAL_SYSTEM_TOKEN", UNSET, secret=True
    )
    """Bearer token; empty when the receiver asks for none."""
    signing_secret: Annotated[SecretStr, AfterValidator(parse.signing_secrets)] = setting(
        "EXTERNAL_SYSTEM_SIGNING_SECRET", UNSET, secret=True
    )
    """Standard Webhooks secret (whsec_…), or the new and the old with a comma between; empty: nothing is signed."""
    timeout_seconds: Annotated[float, Interval(ge=0.1, le=120)] = setting("EXTERNAL_SYSTEM_TIMEOUT", 10.0)
    """Seconds one request may take, 0.1..120."""
    retry_attempts: Annotated[int, Interval(ge=0, le=100)] = setting("EXTERNAL_SYSTEM_RETRY_ATTEMPTS", 5)
    """Retries of a request within one micro-batch, 0..100; after them the batch is repeated, nothing is dropped."""
    headers: Annotated[dict[str, SecretStr], BeforeValidator(parse.headers)] = setting(
        "EXTERNAL_SYSTEM_HEADERS", {}, secret=True
    )
    """More request headers, a JSON object of texts, for example {"X-Tenant": "radio"}."""
    mode: Literal["batch", "single"] = setting("EXTERNAL_SYSTEM_MODE", "batch")
    """Whether a request carries many events or one: batch or single."""
    batch_size: Annotated[int, Interval(ge=1, le=10_000)] = setting("EXTERNAL_SYSTEM_BATCH_SIZE", 100)
    """Events that a request carries at most in batch mode, 1..10000; 1 MiB closes it earlier."""
    concurrency: Annotated[int, Interval(ge=1, le=64)] = setting("EXTERNAL_SYSTEM_CONCURRENCY", 8)
    """Requests under way at once per Spark task, of which there is at most one per Kafka partition, 1..64."""
    interval_seconds: Annotated[float, Interval(ge=0.5, le=300)] = setting("EXTERNAL_SYSTEM_INTERVAL_SECONDS", 5.0)
    """Seconds between the starts of two micro-batches, 0.5..300; a backlog is sent without a pause."""
    retention_days: Annotated[int, Interval(ge=0, le=3_650)] = setting("EXTERNAL_SYSTEM_RETENTION_DAYS", 30)
    """Days that the table `deliveries` keeps its rows, 0..3650; 0: for ever."""
    backfill_rate: Annotated[int, Interval(ge=1, le=100_000)] = setting("EXTERNAL_SYSTEM_BACKFILL_RATE", 1_000)
    """Events a second that a backfill sends at most, beside what the stream sends, 1..100000."""
    installation: Identifier = setting("EXTERNAL_SYSTEM_INSTALLATION", "engagement")
    """Part of every idempotency key: changed, the receiver takes all events for new; letters, digits and _ . : -."""
    allow_private: bool = setting("EXTERNAL_SYSTEM_ALLOW_PRIVATE", False)
    """Whether the address may lead into a private network (10.0.0.0/8 and the like)."""
    ca_file: str = setting("EXTERNAL_SYSTEM_CA_FILE", "")
    """PEM file of the authorities that are trusted, on every worker too; empty: the public ones."""

    @property
    def signing_secrets(self) -> tuple[str, ...]:
        """The secrets one by one."""
        return tuple(filter(None, self.signing_secret.get_secret_value().split(",")))


class ProcessingSettings(Section):
    """The streaming job."""

    batch_size: Annotated[int, Interval(ge=1, le=1_000_000)] = setting("BATCH_SIZE", 20_000)
    """Messages a micro-batch takes at most, 1..1000000."""
    interval_seconds: Annotated[float, Interval(ge=0, le=3600)] = setting("PROCESSING_INTERVAL_SECONDS", 0.0)
    """Seconds between the starts of two Redis micro-batches, 0..3600; 0: each starts when the one before has ended."""
    max_processing_time_seconds: Annotated[float, Interval(ge=1, le=86_400)] = setting(
        "MAX_PROCESSING_TIME_SECONDS", 300.0
    )
    """Seconds after which a micro-batch that still runs is reported as stuck, 1..86400."""
    enable_exactly_once: Annotated[bool, AfterValidator(parse.only_exactly_once)] = setting("ENABLE_EXACTLY_ONCE", True)
    """Always true: there is no second way of writing that would be faster and less safe."""
    content_refresh_seconds: Annotated[float, Interval(ge=1, le=3600)] = setting("CONTENT_REFRESH_SECONDS", 30.0)
    """Seconds between two readings of the content table, 1..3600; above 60 a changed length counts late."""
    spark_master: Annotated[str, StringConstraints(pattern=r"^(local(\[.+\])?|yarn|(spark|k8s)://.+)$")] = setting(
        "SPARK_MASTER", "local[12]"
    )
    """Where Spark runs: local[slots], spark://…, yarn or k8s://…; slots, not cores, so that slow sinks leave room."""


class MonitoringSettings(Section):
    """What people and alarms look at."""

    metrics_port: Annotated[int, Interval(ge=0, le=65_535)] = setting("METRICS_PORT", 8080)
    """Port of the monitoring API, 0..65535; 0 takes a free one."""
    metrics_host: str = setting("METRICS_HOST", "127.0.0.1")
    """Address it listens on; anything but loopback shows the figures to the network."""
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(parse.log_level)] = setting(
        "LOG_LEVEL", "INFO"
    )
    """Least important message that is logged: DEBUG, INFO, WARNING or ERROR."""
    log_format: Literal["auto", "json", "console"] = setting("LOG_FORMAT", "auto")
    """How log lines look: json, console, or auto: console on a terminal, JSON elsewhere."""
    enable_health_checks: bool = setting("ENABLE_HEALTH_CHECKS", True)
    """Whether /health asks the services; false: it judges Redis and the queries only."""


class GenerationSettings(Section):
    """The generator of test data."""

    interval_seconds: Annotated[float, Interval(ge=0.01, le=60)] = setting("GENERATION_INTERVAL", 0.05)
    """Seconds between two commits in continuous mode, 0.01..60."""
    events_per_batch: Annotated[int, Interval(ge=1, le=1_000_000)] = setting("EVENTS_PER_BATCH", 50)
    """Rows per GENERATION_INTERVAL in continuous mode unless --rate is given, in all in batch mode, 1..1000000."""
    max_events_per_day: Annotated[int, Interval(ge=0, le=10**12)] = setting("MAX_EVENTS_PER_DAY", 0)
    """Rows per UTC day after which the generator waits for the next, 0..10^12; 0: no limit."""


class BackfillSettings(Section):
    """Reading history again."""

    batch_size: Annotated[int, Interval(ge=1, le=10_000_000)] = setting("BACKFILL_BATCH_SIZE", 1_000_000)
    """Rows per chunk, which is one commit and what a restart may repeat, 1..10000000; a task reads 50000 of them."""
    start_date: date | None = setting("BACKFILL_START_DATE", None)
    """First day, YYYY-MM-DD in UTC, when the command names none."""
    end_date: date | None = setting("BACKFILL_END_DATE", None)
    """Day after the last, YYYY-MM-DD in UTC, when the command names none."""


class ReconcileSettings(Section):
    """Comparing the sinks with PostgreSQL."""

    young_seconds: Annotated[int, Interval(ge=1, le=3600)] = setting("RECONCILE_YOUNG_SECONDS", 120)
    """Seconds that a change may take to be everywhere, 1..3600; only what differs for longer is drift."""
    interval_seconds: Annotated[float, Interval(ge=0, le=604_800)] = setting("RECONCILE_INTERVAL_SECONDS", 0.0)
    """Seconds after which `reconcile` compares again until it is stopped, at most 7 days; 0: once."""


class PathSettings(Section):
    """Where state is kept; relative paths count from the project folder."""

    engagement_home: Path = setting("ENGAGEMENT_HOME", Path(".engagement"))
    """Folder of the embedded services' data and logs."""
    lake_path: str = setting("LAKE_PATH", ".engagement/lake")
    """Folder or object store address of the Delta tables; default lake in ENGAGEMENT_HOME."""
    checkpoint_path: Annotated[Path, BeforeValidator(parse.local_path)] = setting(
        "CHECKPOINT_PATH", Path(".engagement/checkpoints")
    )
    """Local folder with one checkpoint per query; default checkpoints in ENGAGEMENT_HOME."""
