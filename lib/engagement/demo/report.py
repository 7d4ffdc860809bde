"""The report of a demo run: its keys are public (README, section "The report")."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import psutil

from engagement.demo.external import ExternalReport
from engagement.demo.probe import Freshness
from engagement.processes import family

_PACKAGES = ("pyspark", "pyarrow", "redis", "psycopg2-binary", "confluent-kafka", "fastapi")


@dataclass(frozen=True)
class LakeReport:
    """What the lake holds of the demo's rows."""

    rows: int
    """Row versions."""
    equals_reference: bool
    """Whether the newest version of each event is its row in PostgreSQL, and no version is there twice."""
    dead_letters: int


@dataclass(frozen=True)
class WarehouseReport:
    """How fresh the warehouse was, and what it holds of the demo's rows."""

    p50_ms: float | None
    """Commit -> visible to a query, by probe rows; asked every two seconds, so up to that much too high."""
    p99_ms: float | None
    samples: int
    missed_probes: int
    """Not visible within two minutes, or not yet when everything was at rest."""
    rows: int
    """Row versions."""
    equals_reference: bool
    """As for the lake."""


@dataclass(frozen=True)
class Report:
    """What a run measured; milliseconds, seconds and MiB as the names say."""

    setup_seconds: float
    """Making the Python environment and fetching jars, by the launcher; near 0 when they were there."""
    ready_seconds: float
    """From the start of the command's Python to the first ranked event."""
    duration_seconds: float
    rate: int
    """Rows per second that were asked for."""
    inserted: int
    """Rows committed to PostgreSQL in the measured time, probes included."""
    events_per_second: float | None
    """Messages delivered to the ranking per second of it; None where the streaming job began anew meanwhile."""
    redis: Freshness | None
    """Commit -> visible in the ranking, by probe rows, after the warm-up."""
    missed_probes: int
    board_equals_reference: bool
    lost: int
    doubled: int
    lake: LakeReport | None
    """None while the lake has no rows, or could not be read."""
    warehouse: WarehouseReport | None
    """None while the warehouse has no table, or could not be read."""
    external: ExternalReport | None
    """None while nothing was recorded."""
    dead_letters: Mapping[str, int]
    rss_mib: Mapping[str, float]
    restarts: Mapping[str, int]
    """Services and jobs that were found dead and started again."""
    versions: Mapping[str, str]

    @property
    def succeeded(self) -> bool:
        """Whether everything that was inserted is in every sink once, and the probes were seen."""
        board = self.board_equals_reference and not self.lost and not self.doubled and self.redis is not None
        return board and all(kept is not None and kept.equals_reference for kept in (self.lake, self.warehouse))

    def summary(self) -> str:
        """The outcome in a few lines for a person."""
        seen = self.redis
        lines = [
            f"board {_verdict(self.board_equals_reference)}: {self.lost} lost, {self.doubled} doubled",
            "lake: no rows seen" if self.lake is None else
            f"lake {_verdict(self.lake.equals_reference)}: "
            f"{self.lake.rows} row versions, {self.lake.dead_letters} dead letters",
            "warehouse: no rows seen" if self.warehouse is None else
            f"warehouse {_verdict(self.warehouse.equals_reference)}: {self.warehouse.rows} row versions, "
            f"commit -> visible p50 {_ms(self.warehouse.p50_ms)}, p99 {_ms(self.warehouse.p99_ms)}, "
            f"{self.warehouse.missed_probes} probes missed",
            "external: no records" if self.external is None else str(self.external),
            f"{self.inserted} rows in {self.duration_seconds:.0f} s, " +
            ("messages/s unknown: the streaming job began anew, or said nothing" if self.events_per_second is None else
             f"{self.events_per_second:.0f} messages/s delivered"),
            f"commit -> visible: no sample, {self.missed_probes} probes missed" if seen is None else
            f"commit -> visible: p50 {seen.p50_ms:.0f} ms, p95 {seen.p95_ms:.0f} ms, p99 {seen.p99_ms:.0f} ms, "
            f"max {seen.max_ms:.0f} ms over {seen.samples} probes, {self.missed_probes} missed",
            f"ready after {self.ready_seconds:.0f} s, {self.rss_mib.get('total', 0):.0f} MiB in all",
        ]  # fmt: skip
        return "\n".join(lines)

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")


def _verdict(equals: bool) -> str:
    return "equals the reference" if equals else "DIFFERS from the reference"


def _ms(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.0f} ms"


def package_versions() -> dict[str, str]:
    """Versions of the libraries a figure depends on."""
    return {name: version(name) for name in _PACKAGES}


def tree_rss_mib(pid: int | None) -> float:
    """Memory of a process and what it started, in MiB; pages shared between them count once.

    The proportional set size is what "together" means: forked Python workers share most of their pages.
    """
    return round(sum(_pss(process) for process in family(pid)) / 2**20, 1)


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0
