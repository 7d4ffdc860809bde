"""The lake's files as the demo finds them, and what it measures of deliveries."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
from deltalake import write_deltalake

from engagement.demo.external import ExternalReport, measure_external
from engagement.demo.lake import table_files


def test_files_below_a_folder_with_a_space_are_found(tmp_path: Path) -> None:
    table = tmp_path / "a lake" / "events"
    write_deltalake(str(table), pa.table({"day": ["2026-11-25"], "id": [1]}), partition_by=["day"])
    files = table_files(table)
    assert len(files) == 1
    assert Path(files[0]).is_file()


def test_a_table_that_does_not_exist_has_notable_files(tmp_path: Path) -> None:
    assert table_files(tmp_path / "nothing") == []


SQL = Path(__file__).resolve().parents[2] / "sql" / "reference"
SINCE = datetime(2026, 11, 25, 12, tzinfo=UTC)


def test_deliveries_are_measured_from_commit_to_acknowledgement(tmp_path: Path) -> None:
    def row(op: str, status: str, committed: float, milliseconds: int) -> dict[str, object]:
        at = SINCE + timedelta(seconds=committed)
        return {"op": op, "status": status, "commit_ts": at, "last_ts": at + timedelta(milliseconds=milliseconds)}

    rows = [
        *(row("c", "delivered", 1, 1000 + n * 10) for n in range(101)),
        row("r", "delivered", 1, 3_600_000),
        row("u", "rejected", 2, 1500),
        row("c", "delivered", -60, 90_000),
    ]
    write_deltalake(str(tmp_path / "deliveries"), pa.Table.from_pylist(rows))
    report = measure_external(tmp_path, SQL, SINCE, receiver="")
    assert report == ExternalReport(p50_ms=1500, p99_ms=1989.9, delivered=102, repeats=None, dead_letters=1)


def test_without_records_there_is_nothing_to_measure(tmp_path: Path) -> None:
    assert measure_external(tmp_path, SQL, SINCE, receiver="") is None
