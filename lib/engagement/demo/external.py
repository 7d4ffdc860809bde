"""What the external system got: from the sink's own records, and from the receiver's, which counts what came twice."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb

from engagement.demo.lake import table_files
from engagement.embedded.site import loopback_session

_ANSWER_SECONDS = 10.0


@dataclass(frozen=True)
class ExternalReport:
    """Deliveries of rows committed in the measured time."""

    p50_ms: float | None
    """Milliseconds from the commit in PostgreSQL until the receiver's acknowledgement; None without a delivery."""
    p99_ms: float | None
    delivered: int
    """Row versions that were acknowledged."""
    repeats: int | None
    """How often the receiver got a key that it had, since it was set up; None for a receiver that is not ours."""
    dead_letters: int
    """Row versions that were refused."""

    def __str__(self) -> str:
        if self.p50_ms is None or self.p99_ms is None:
            return "external: nothing was delivered"
        repeats = "" if self.repeats is None else f", {self.repeats} repeats"
        return (
            f"external: {self.delivered} delivered{repeats}, {self.dead_letters} dead letters, "
            f"commit -> acknowledged p50 {self.p50_ms:.0f} ms, p99 {self.p99_ms:.0f} ms"
        )


def measure_external(lake: Path, sql_folder: Path, since: datetime, receiver: str) -> ExternalReport | None:
    """Measure; None while there is no table. `receiver` is the address of ours, "" for another."""
    files = table_files(lake / "deliveries")
    if not files:
        return None
    query = (sql_folder / "external_deliveries.sql").read_text()
    with duckdb.connect() as engine:
        found = engine.execute(query, {"files": files, "since": since}).fetchone()
    delivered, dead_letters, p50, p99 = found or (0, 0, None, None)
    p50, p99 = (None if quantile is None else round(quantile, 1) for quantile in (p50, p99))
    return ExternalReport(p50, p99, delivered, _repeats(receiver) if receiver else None, dead_letters)


def _repeats(receiver: str) -> int:
    with loopback_session() as session:
        answer = session.get(f"{receiver}/stats", timeout=_ANSWER_SECONDS)
        answer.raise_for_status()
        return int(answer.json()["repeats"])
