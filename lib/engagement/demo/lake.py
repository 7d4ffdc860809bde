"""The lake against what PostgreSQL says of the rows themselves; read by another engine than the one that wrote it."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import duckdb
from deltalake import DeltaTable
from psycopg2.extensions import connection as Connection


@dataclass(frozen=True)
class LakeComparison:
    """What a comparison found; counts of event ids but for `rows` and `doubled`, which are rows."""

    rows: int
    """Row versions of the demo's events."""
    doubled: int
    """Rows that share event id and version with another."""
    lost: int
    """Rows of PostgreSQL whose newest version is missing or a deletion."""
    phantom: int
    """Events that the lake thinks alive and PostgreSQL does not have."""
    different: int
    """Events whose newest version holds other values."""
    dead_letters: int

    @property
    def is_equal(self) -> bool:
        """Whether the newest versions are the rows, and none is there twice."""
        return not (self.doubled or self.lost or self.phantom or self.different)

    def __str__(self) -> str:
        found = f"{self.lost} lost, {self.doubled} doubled, {self.phantom} phantom, {self.different} different"
        return f"{self.rows} row versions, {found}"


def compare_lake(database: Connection, lake: Path, sql_folder: Path, after: int) -> LakeComparison | None:
    """Compare events with an id above `after`; None while the lake has no table with rows yet."""
    files = _files(lake / "enriched_events")
    if not files:
        return None
    with tempfile.TemporaryDirectory() as folder, database, database.cursor() as cursor:
        rows = Path(folder) / "rows.csv"
        query = cursor.mogrify((sql_folder / "lake_rows.sql").read_text(), {"after": after}).decode()
        with rows.open("wb") as file:
            cursor.copy_expert(f"copy ({query}) to stdout (format csv, header)", file)
        differences = (sql_folder / "lake_differences.sql").read_text()
        with duckdb.connect() as engine:
            found = engine.execute(differences, {"files": files, "rows": str(rows), "after": after}).fetchone()
    counts = dict(zip(("rows", "doubled", "lost", "phantom", "different"), found or (), strict=True))
    return LakeComparison(**counts, dead_letters=_count(_files(lake / "dead_letters")))


def _files(table: Path) -> list[str]:
    if not DeltaTable.is_deltatable(str(table)):
        return []
    return [unquote(uri) for uri in DeltaTable(table).file_uris()]  # a space in the path comes as %20


def _count(files: list[str]) -> int:
    if not files:
        return 0
    with duckdb.connect() as engine:
        (count,) = engine.execute("select count(*) from read_parquet($files)", {"files": files}).fetchone() or (0,)
    return int(count)
