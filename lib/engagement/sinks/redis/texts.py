"""Columns as readers of Redis see them: text, NULL as '', times as ISO 8601."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from engagement.transform.columns import listed


def texts(rows: pa.RecordBatch | pa.Table, names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Give each row's columns of these names.

    >>> [*texts(pa.table({"n": [1, None], "s": ["a", "b"]}), ("s", "n"))]
    [('a', '1'), ('b', '')]
    """
    columns = [listed(_text(rows.column(name))) for name in names]
    return zip(*columns, strict=True)


def _text(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    text = column.cast(pa.string())
    if pa.types.is_timestamp(column.type):
        text = pc.replace_substring(text, " ", "T")  # 2026-01-01T00:00:00.000000Z
    return pc.fill_null(text, "")
