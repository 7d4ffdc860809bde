"""Row images made of whole columns, and put together from several batches."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engagement.schemas import IMAGES, Kind
from engagement.transform.columns import repeated

_LONG, _INT, _TEXT, _FLAG = pa.int64(), pa.int32(), pa.string(), pa.bool_()
# What is true of every image that needs no closer look.
_PLAIN = {
    "kind": (str(Kind.CHANGE), _TEXT),
    "code": (None, _TEXT),
    "detail": (None, _TEXT),
    "raw_value": (None, pa.binary()),
    "header_names": (None, pa.list_(_TEXT)),
    "replay_of": (None, _LONG),
    "is_version": (True, _FLAG),
    "effect": (1, _INT),
    "half": (1, _INT),
}


def plain_images(columns: Mapping[str, pa.Array], count: int) -> pa.RecordBatch:
    """Images (contract IMAGES) of valid rows that each count once: all columns but those that are the same in each."""
    every = {**{name: repeated(value, kind, count) for name, (value, kind) in _PLAIN.items()}, **columns}
    return pa.RecordBatch.from_arrays([every[name] for name in IMAGES.names], IMAGES.names)


def in_order(parts: Sequence[tuple[pa.RecordBatch, npt.NDArray[np.int64]]]) -> pa.RecordBatch:
    """Rows of several batches as one, by the places that belong to them; rows of one place stay as they are."""
    table = pa.Table.from_batches([batch for batch, _ in parts]).combine_chunks()
    order = np.argsort(np.concatenate([places for _, places in parts]), kind="stable")
    (batch,) = table.take(pa.array(order)).combine_chunks().to_batches()
    return batch
