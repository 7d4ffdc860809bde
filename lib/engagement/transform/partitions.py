"""The rows of one Spark task, Kafka partition by Kafka partition, as they come to a sink's own work."""

from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise

import numpy as np
import pyarrow as pa


def by_partition(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, Iterator[pa.RecordBatch]]]:
    """Give each run of rows of one Kafka partition, in the order in which they come; batches may be empty."""
    pieces = ((piece.column("kafka_partition")[0].as_py(), piece) for batch in batches for piece in _pure(batch))
    for partition, group in groupby(pieces, key=lambda item: item[0]):
        yield int(partition), (piece for _, piece in group)


def _pure(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    partitions = batch.column("kafka_partition").to_numpy(zero_copy_only=False)
    borders = [0, *(np.flatnonzero(np.diff(partitions)) + 1).tolist(), batch.num_rows]
    for start, stop in pairwise(borders):
        if stop > start:
            yield batch.slice(start, stop - start)
