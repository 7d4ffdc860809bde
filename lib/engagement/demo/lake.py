"""The lake's tables as another engine than the one that wrote them reads them."""

from pathlib import Path
from urllib.parse import unquote

import duckdb
from deltalake import DeltaTable
from psycopg2.extensions import connection as Connection

from engagement.demo.versions import STORED, VersionComparison, compare_versions


def compare_lake(database: Connection, lake: Path, sql_folder: Path, after: int) -> VersionComparison | None:
    """Compare events with an id above `after`; None while the lake has no table with rows yet."""
    files = table_files(lake / "enriched_events")
    if not files:
        return None
    with duckdb.connect() as engine:
        engine.read_parquet(files).create_view(STORED)
        return compare_versions(database, engine, sql_folder, after, exact_json=True)


def count_dead_letters(lake: Path) -> int:
    """Dead letters in the lake."""
    files = table_files(lake / "dead_letters")
    if not files:
        return 0
    with duckdb.connect() as engine:
        (count,) = engine.execute("select count(*) from read_parquet($files)", {"files": files}).fetchone() or (0,)
    return int(count)


def table_files(table: Path) -> list[str]:
    """The data files that a Delta table consists of now; none when there is no table."""
    if not DeltaTable.is_deltatable(str(table)):
        return []
    return [unquote(uri) for uri in DeltaTable(table).file_uris()]  # a space in the path comes as %20
