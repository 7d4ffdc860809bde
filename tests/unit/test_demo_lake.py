"""The lake's files as the demo's judge finds them."""

from pathlib import Path

import pyarrow as pa
from deltalake import write_deltalake

from engagement.demo.lake import _files


def test_files_below_a_folder_with_a_space_are_found(tmp_path: Path) -> None:
    table = tmp_path / "a lake" / "events"
    write_deltalake(str(table), pa.table({"day": ["2026-11-25"], "id": [1]}), partition_by=["day"])
    files = _files(table)
    assert len(files) == 1
    assert Path(files[0]).is_file()


def test_a_table_that_does_not_exist_has_no_files(tmp_path: Path) -> None:
    assert _files(tmp_path / "nothing") == []
