"""What the external system got: from the sink's own records, and from the receiver's, which counts what came twice."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import requests

from engagement.demo.lake import table_files
from engagement.demo.patience import Patience
from engagement.embedded.site import loopback_session
from engagement.monitoring.status import QueryStatus

_ANSWER_SECONDS = 10.0
_SENT_LIMIT_SECONDS = 60.0
_LOOK_SECONDS = 1.0
_LAG_AGE = timedelta(seconds=3)
"""What a status says of waiting messages may be so much older than the status."""


@dataclass(frozen=True)
class ExternalReport:
    """Deliveries of rows committed in the measured time."""

    p50_ms: float | None
    """Milliseconds from the commit in PostgreSQL until the receiver's acknowledgement; None without a delivery."""
    p99_ms: float | None
    delivered: int
    """Row versions that were acknowledged."""
    repeats: int | None
    """How often the receiver got a key that it had, since it was set up; None for one that is not ours, or away."""
    dead_letters: int
    """Row versions that were refused."""
    waiting: int | None
    """Messages that were still to be sent when this was measured; None where the job did not say."""

    def __str__(self) -> str:
        waiting = {None: ", unknown how many still wait", 0: ""}.get(self.waiting, f", {self.waiting} still wait")
        if self.p50_ms is None or self.p99_ms is None:
            return f"external: nothing was delivered{waiting}"
        repeats = "" if self.repeats is None else f", {self.repeats} repeats"
        return (
            f"external: {self.delivered} delivered{repeats}, {self.dead_letters} dead letters, "
            f"commit -> acknowledged p50 {self.p50_ms:.0f} ms, p99 {self.p99_ms:.0f} ms{waiting}"
        )


@dataclass(frozen=True)
class Committed:
    """The rows to measure: those committed in [since, until)."""

    since: datetime
    until: datetime


def await_sent(status: Callable[[], QueryStatus | None], ended: datetime, patience: Patience) -> int | None:
    """Messages that the sink's query has yet to send, once none waits or a minute is over; None while it is unknown.

    `status` is asked for what the query says of itself, `ended` is when the last row was committed.
    """
    waiting = None
    for _ in patience.looks(_SENT_LIMIT_SECONDS, _LOOK_SECONDS):
        found = status()
        if found is not None and found.lag_rows and found.updated_at >= ended + _LAG_AGE:
            waiting = sum(found.lag_rows.values())
        if waiting == 0:
            break
    return waiting


def measure_external(
    lake: Path, sql_folder: Path, rows: Committed, receiver: str, waiting: int | None
) -> ExternalReport | None:
    """Measure; None while there is no table. `receiver` is the address of ours, "" for another."""
    files = table_files(lake / "deliveries")
    if not files:
        return None
    query = (sql_folder / "external_deliveries.sql").read_text()
    with duckdb.connect() as engine:
        found = engine.execute(query, {"files": files, "since": rows.since, "until": rows.until}).fetchone()
    delivered, dead_letters, p50, p99 = found or (0, 0, None, None)
    p50, p99 = (None if quantile is None else round(quantile, 1) for quantile in (p50, p99))
    return ExternalReport(p50, p99, delivered, _repeats(receiver) if receiver else None, dead_letters, waiting)


def _repeats(receiver: str) -> int | None:
    """None where it does not answer: what else was measured is worth a report all the same."""
    with loopback_session() as session, suppress(requests.RequestException):
        answer = session.get(f"{receiver}/stats", timeout=_ANSWER_SECONDS)
        answer.raise_for_status()
        return int(answer.json()["repeats"])
    return None
