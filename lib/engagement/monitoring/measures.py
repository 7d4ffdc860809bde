"""What a process measures beside its queries' status: kept in memory, written to Redis, read by the API.

Redis HASH `engagement:measures`: field = process (`stream`, `serve`), of commands process and sink (`backfill:lake`),
value = JSON. Guarantee, as of the status board: recording never raises for what it is given and waits for nothing; a
failed write is counted and the next one carries everything again. Counters and histograms begin at 0 with the process.
"""

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError
from redis import Redis
from redis.exceptions import RedisError

from engagement.monitoring.catalogue import METRICS, Metric
from engagement.monitoring.histogram import BUCKETS_SECONDS, Histogram
from engagement.monitoring.status import to_utc

MEASURES_KEY = "engagement:measures"
MEASURES_TTL_SECONDS = 86_400
FLUSH_INTERVAL_SECONDS = 1.0

_Key = tuple[str, tuple[tuple[str, str], ...]]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Measured(_Frozen):
    """One value of one metric; of a histogram `value` is the sum and `counts` the observations per bucket."""

    metric: str
    labels: dict[str, str] = {}
    value: float
    counts: tuple[int, ...] | None = None


class ProcessMeasures(_Frozen):
    """All that one process has measured, as it was at `updated_at`."""

    updated_at: AwareDatetime
    values: tuple[Measured, ...]


class Recorder(Protocol):
    """What code that has something to measure asks for."""

    def set(self, metric: Metric, value: float, **labels: str) -> None:
        """A gauge is `value` now."""

    def add(self, metric: Metric, amount: float = 1.0, **labels: str) -> None:
        """A counter grows."""

    def observe(self, metric: Metric, seconds: float, count: int = 1, **labels: str) -> None:
        """A histogram saw `count` times `seconds`."""


@dataclass(frozen=True)
class Nothing:
    """A recorder for those who measure nothing: tests, scripts."""

    def set(self, metric: Metric, value: float, **labels: str) -> None:
        """Forget it."""

    def add(self, metric: Metric, amount: float = 1.0, **labels: str) -> None:
        """Forget it."""

    def observe(self, metric: Metric, seconds: float, count: int = 1, **labels: str) -> None:
        """Forget it."""


class Measures:
    """Thread-safe; `process` names the writer, `clock` gives epoch seconds. Opens nothing.

    `by_sink`: what is measured of a sink has a field of its own, so that a run which leaves a sink out leaves what an
    earlier one has said of it.
    """

    def __init__(self, process: str, clock: Callable[[], float] = time.time, *, by_sink: bool = False) -> None:
        self.process, self._clock, self._by_sink = process, clock, by_sink
        self._lock = threading.Lock()
        self._values: dict[_Key, float] = {}
        self._histograms: dict[_Key, Histogram] = {}
        self._flushed_at = -math.inf
        self.dropped = 0
        """Records left out for a wrong type or label: a defect of the caller, counted instead of raised."""
        self.failed_flushes = 0

    def set(self, metric: Metric, value: float, **labels: str) -> None:
        """A gauge is `value` now."""
        key = self._key(metric, "gauge", value, labels)
        if key is not None:
            with self._lock:
                self._values[key] = float(value)

    def add(self, metric: Metric, amount: float = 1.0, **labels: str) -> None:
        """A counter grows by `amount` (0 makes it known)."""
        key = self._key(metric, "counter", amount, labels)
        if key is not None and amount >= 0:
            with self._lock:
                self._values[key] = self._values.get(key, 0.0) + amount

    def observe(self, metric: Metric, seconds: float, count: int = 1, **labels: str) -> None:
        """A histogram saw `count` times `seconds`."""
        key = self._key(metric, "histogram", seconds, labels)
        if key is not None and count > 0:
            with self._lock:
                self._histograms.setdefault(key, Histogram()).add(seconds, count)

    def forget(self, metric: Metric) -> None:
        """Drop all values of a metric: what is no longer true is not shown."""
        with self._lock:
            self._values = {key: value for key, value in self._values.items() if key[0] != metric.name}

    def snapshot(self) -> ProcessMeasures:
        """Everything as it is now."""
        with self._lock:
            plain = [Measured(metric=name, labels=dict(labels), value=v) for (name, labels), v in self._values.items()]
            spread = [
                Measured(metric=name, labels=dict(labels), value=one.sum_seconds, counts=tuple(one.counts))
                for (name, labels), one in self._histograms.items()
            ]
        return ProcessMeasures(updated_at=to_utc(self._clock()), values=(*plain, *spread))

    def flush(self, client: Redis, *, force: bool = False) -> bool:
        """Write if the last writing is a second old (or `force`); False if it was due and failed."""
        now = self._clock()
        if not force and 0 <= now - self._flushed_at < FLUSH_INTERVAL_SECONDS:
            return True
        self._flushed_at = now
        try:
            with client.pipeline(transaction=False) as pipeline:
                for field, told in self._fields().items():
                    pipeline.hset(MEASURES_KEY, field, told.model_dump_json())
                pipeline.expire(MEASURES_KEY, MEASURES_TTL_SECONDS)
                pipeline.execute()
        except (RedisError, OSError):
            self.failed_flushes += 1
            return False
        return True

    def _fields(self) -> dict[str, ProcessMeasures]:
        """Field of the hash -> what it is to hold."""
        told = self.snapshot()
        if not self._by_sink:
            return {self.process: told}
        parts: dict[str, list[Measured]] = {}
        for one in told.values:
            sink = one.labels.get("sink")
            parts.setdefault(f"{self.process}:{sink}" if sink else self.process, []).append(one)
        return {field: told.model_copy(update={"values": tuple(part)}) for field, part in parts.items()}

    def _key(self, metric: Metric, kind: str, value: object, labels: Mapping[str, str]) -> _Key | None:
        number = isinstance(value, int | float) and math.isfinite(value)
        if not number or metric.kind != kind or set(labels) != set(metric.labels):
            self.dropped += 1
            return None
        return metric.name, tuple(sorted((name, str(text)) for name, text in labels.items()))


def parse_measures(fields: Mapping[str | bytes, str | bytes]) -> dict[str, ProcessMeasures]:
    """Read the hash, by field; a field that cannot be read, or a metric of a newer version, never hides the others."""
    found: dict[str, ProcessMeasures] = {}
    for field, text in fields.items():
        process = field.decode("utf-8", "replace") if isinstance(field, bytes) else field
        try:
            read = ProcessMeasures.model_validate_json(text)
        except ValidationError:
            continue
        found[process] = read.model_copy(update={"values": tuple(_usable(read.values))})
    return found


def read_measures(client: Redis) -> dict[str, ProcessMeasures]:
    """Read what every process measured; raises redis.RedisError as the client does."""
    return parse_measures(client.hgetall(MEASURES_KEY))


def _usable(values: Iterable[Measured]) -> Iterable[Measured]:
    for one in values:
        metric = METRICS.get(one.metric)
        if metric is None or set(one.labels) != set(metric.labels):
            continue
        wanted = len(BUCKETS_SECONDS) + 1 if metric.kind == "histogram" else None
        if wanted == (None if one.counts is None else len(one.counts)):
            yield one


def measured(metric: Metric, value: float, **labels: str) -> Measured:
    """One value of a gauge."""
    return Measured(metric=metric.name, labels=labels, value=value)
