"""What a streaming query says about itself: the typed, versioned JSON in the Redis hash `engagement:status`.

Only the model, its codec and its reader live here; `board.py` fills it in. No Spark: the API reads it from any machine.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError
from redis import Redis

STATUS_KEY = "engagement:status"
"""HASH: field = sink, value = JSON of a QueryStatus."""
STATUS_TTL_SECONDS = 86_400
STATUS_VERSION = 1


class QueryState(StrEnum):
    """What a query is doing; `waiting` is for something outside (its reason says what), `stopped` is a clean end."""

    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


ENDED = (QueryState.STOPPED, QueryState.FAILED)
"""States in which nothing more is to be heard of a query: what it said last holds."""


class _Frozen(BaseModel):
    # Unknown fields are ignored, so an older API reads what a newer job of the same version adds.
    model_config = ConfigDict(frozen=True, extra="ignore")


class RowTotals(_Frozen):
    """Messages since the query started, by outcome; each message has exactly one."""

    read: int = 0
    delivered: int = 0
    dead_letters: dict[str, int] = {}
    """By code of contract section 9."""
    tombstones: int = 0
    moves: int = 0
    already_delivered: int = 0

    @property
    def conservation_difference(self) -> int:
        """Rows read that no outcome accounts for; anything but 0 is a defect."""
        accounted = self.delivered + self.tombstones + self.moves + self.already_delivered
        return self.read - accounted - sum(self.dead_letters.values())


class RefusedBatch(_Frozen):
    """A micro-batch with more dead letters than can be chance."""

    read: int
    dead_letters: dict[str, int]
    """By code of contract section 9."""

    @property
    def reason(self) -> str:
        """What is wrong, and what to look at: counts and codes, the most frequent first.

        >>> RefusedBatch(read=300, dead_letters={"E_TS": 10, "E_JSON": 200}).reason
        '210 of 300 messages were refused (E_JSON, E_TS): `./spark-submit.sh dead-letters list` shows them'
        """
        codes = ", ".join(code for code, _ in Counter(self.dead_letters).most_common())
        told = f"{sum(self.dead_letters.values())} of {self.read} messages were refused ({codes})"
        return f"{told}: `./spark-submit.sh dead-letters list` shows them"


class RecentFreshness(_Frozen):
    """Freshness of the newest minute; quantiles are None without observations."""

    window_seconds: int
    count: int
    p50_seconds: float | None
    p95_seconds: float | None
    p99_seconds: float | None


class FreshnessStatus(_Frozen):
    """Commit to visible: cumulative counts per upper bound since the query started (the last: all), and recently."""

    buckets_seconds: tuple[float, ...]
    cumulative: tuple[int, ...]
    sum_seconds: float
    recent: RecentFreshness


class QueryStatus(_Frozen):
    """One streaming query as it was at `updated_at`; totals start at 0 with the process (`started_at`)."""

    version: int = STATUS_VERSION
    sink: str
    state: QueryState
    reason: str
    state_since: AwareDatetime
    started_at: AwareDatetime
    updated_at: AwareDatetime
    """When this was written: the process lives."""
    progress_at: AwareDatetime
    """When the query last finished a batch, found nothing to do or changed its state."""
    last_batch_at: AwareDatetime | None
    batch_id: int | None
    batch_duration_ms: float | None
    input_rows_per_second: float
    lag_rows: dict[int, int]
    """Rows in Kafka not yet taken, by partition."""
    lag_seconds: dict[int, float] = {}
    """How long the oldest of them has been waiting, by partition; 0 when none waits."""
    phases_ms: dict[str, float] = {}
    """Spark's account of its newest micro-batch: milliseconds by phase."""
    retries: int = 0
    """Times a micro-batch was tried again or the query started again."""
    rows: RowTotals
    freshness: FreshnessStatus
    content_cache_age_seconds: float | None
    late_rows: int
    repeat_rows: int
    truncations: int = 0
    """Of the dead letters: those that say that the source's table was emptied."""
    refused: RefusedBatch | None = None
    """The newest of the last minute, if there was one."""
    rebuilds: int
    dropped_records: int
    """Records the board could not use (wrong types): a defect of the caller, shown instead of failing the stream."""


@dataclass(frozen=True)
class StatusBook:
    """All queries found in Redis, and what could not be read: sink -> reason."""

    queries: Mapping[str, QueryStatus]
    unreadable: Mapping[str, str]


def to_utc(epoch_seconds: float) -> datetime:
    """Return the moment as an aware UTC datetime of millisecond precision."""
    return datetime.fromtimestamp(round(epoch_seconds, 3), tz=UTC)


def parse_status(text: str | bytes) -> QueryStatus:
    """Read one status; ValueError with a short reason if it is no status of this version."""
    try:
        status = QueryStatus.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(f"not a query status: {error.error_count()} problem(s)") from error
    if status.version != STATUS_VERSION:
        raise ValueError(f"status version {status.version}, this API reads {STATUS_VERSION}")
    return status


def parse_book(fields: Mapping[str | bytes, str | bytes]) -> StatusBook:
    """Read the fields of the hash; an entry that cannot be read never hides the others."""
    queries: dict[str, QueryStatus] = {}
    unreadable: dict[str, str] = {}
    for field, text in fields.items():
        sink = field.decode("utf-8", "replace") if isinstance(field, bytes) else field
        try:
            queries[sink] = parse_status(text)
        except ValueError as error:
            unreadable[sink] = str(error)
    return StatusBook(queries, unreadable)


def read_book(client: Redis) -> StatusBook:
    """Read the status of every query; raises redis.RedisError as the client does."""
    fields = client.hgetall(STATUS_KEY)
    return parse_book(fields)
