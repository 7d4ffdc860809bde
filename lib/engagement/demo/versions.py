"""Row versions that a sink holds, against what PostgreSQL says of the rows themselves; compared by a third engine."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import duckdb
from psycopg2.extensions import connection as Connection

STORED = "stored_rows"
"""What the comparison calls the sink's rows."""


@dataclass(frozen=True)
class VersionComparison:
    """What a comparison found; counts of event ids but for `rows` and `doubled`, which are rows."""

    rows: int
    """Row versions of the demo's events."""
    doubled: int
    """Rows that share event id and version with another."""
    lost: int
    """Rows of PostgreSQL whose newest version is missing or a deletion."""
    phantom: int
    """Events that the sink thinks alive and PostgreSQL does not have."""
    different: int
    """Events whose newest version holds other values."""

    @property
    def is_equal(self) -> bool:
        """Whether the newest versions are the rows, and none is there twice."""
        return not (self.doubled or self.lost or self.phantom or self.different)

    def __str__(self) -> str:
        found = f"{self.lost} lost, {self.doubled} doubled, {self.phantom} phantom, {self.different} different"
        return f"{self.rows} row versions, {found}"


def compare_versions(
    database: Connection, engine: duckdb.DuckDBPyConnection, sql_folder: Path, after: int, *, exact_json: bool
) -> VersionComparison:
    """Compare events with an id above `after`; the engine knows the sink's rows as STORED."""
    with tempfile.TemporaryDirectory() as folder, database, database.cursor() as cursor:
        rows = Path(folder) / "rows.csv"
        query = cursor.mogrify((sql_folder / "rows.sql").read_text(), {"after": after}).decode()
        with rows.open("wb") as file:
            cursor.copy_expert(f"copy ({query}) to stdout (format csv, header)", file)
        differences = (sql_folder / "differences.sql").read_text()
        found = engine.execute(differences, {"rows": str(rows), "after": after, "exact": exact_json}).fetchone()
    return VersionComparison(*(found or ()))
