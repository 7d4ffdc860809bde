"""What the newest reconcile has found, in the Redis hash `engagement:drift`: field = sink, value = JSON of a Drift."""

from collections.abc import Mapping
from datetime import datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError
from redis import Redis

DRIFT_KEY = "engagement:drift"
_TTL_SECONDS = 7 * 86_400


class Drift(BaseModel):
    """How one sink differed."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    at: AwareDatetime
    rows: dict[str, int]
    """Kind of difference -> rows, contents for the ranking; empty: none."""


def write_drift(client: Redis, found: Mapping[str, Mapping[str, int]], at: datetime) -> None:
    """Keep what was found of each sink. Raises: redis.RedisError."""
    fields = {sink: Drift(at=at, rows=dict(rows)).model_dump_json() for sink, rows in found.items()}
    pipeline = client.pipeline(transaction=True)
    pipeline.delete(DRIFT_KEY)
    for sink, text in fields.items():
        pipeline.hset(DRIFT_KEY, sink, text)
    pipeline.expire(DRIFT_KEY, _TTL_SECONDS)
    pipeline.execute()


def read_drift(client: Redis) -> dict[str, Drift]:
    """Sink -> what was found; what cannot be read is left out. Raises: redis.RedisError."""
    found: dict[str, Drift] = {}
    for sink, text in client.hgetall(DRIFT_KEY).items():
        name = sink.decode() if isinstance(sink, bytes) else str(sink)
        try:
            found[name] = Drift.model_validate_json(text)
        except ValidationError:
            continue
    return found
