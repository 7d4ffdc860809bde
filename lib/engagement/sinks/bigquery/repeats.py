"""Versions that the source sends again under new offsets: told apart from new ones by asking the table, in a task.

Rare (a slot that went back, a dead letter that is sent again), and then worth a query for every batch of rows. A flat
row at the offset that is its version is none: the same event may have the same offset in two partitions.
"""

from collections.abc import Callable

import pyarrow as pa

from engagement.sinks.bigquery.rest import ListParameter, Parameter, Rest
from engagement.transform.columns import listed
from engagement.transform.instant import from_micros

Version = tuple[int, int]
"""Event id and version."""


class RepeatFilter:
    """Lets each version through once; mutable while the batches of a micro-batch's only task come."""

    def __init__(self, there: Callable[[pa.RecordBatch], set[Version]]) -> None:
        """`there`: which versions of a batch's events the table holds."""
        self._there = there
        self._seen: set[Version] = set()

    def split(self, rows: pa.RecordBatch) -> tuple[list[int], list[int]]:
        """Which rows (schema ROWS) are new, and which repeat others or what the table holds. Order: kept."""
        known = self._there(rows)
        fresh: list[int] = []
        repeats: list[int] = []
        columns = (listed(rows.column(name)) for name in ("event_id", "version", "kafka_offset"))
        for number, (event_id, own, offset) in enumerate(zip(*columns, strict=True)):
            version = event_id, own
            if own == offset + 1:
                fresh.append(number)
            elif version in known or version in self._seen:
                repeats.append(number)
            else:
                fresh.append(number)
                self._seen.add(version)
        return fresh, repeats


def versions_there(
    rest: Rest, statement: str, rows: pa.RecordBatch, bounds: tuple[int | None, int | None]
) -> set[Version]:
    """Ask the table; `statement` is versions_there.sql, `bounds` the rows' earliest and latest time in microseconds.

    Raises: TransientSinkError, PermanentSinkError.
    """
    times = [None if us is None else from_micros(us) for us in bounds]
    parameters: list[Parameter | ListParameter] = [
        ListParameter("event_ids", "INT64", listed(rows.column("event_id"))),
        Parameter("event_from", "TIMESTAMP", times[0]),
        Parameter("event_to", "TIMESTAMP", times[1]),
    ]
    return {(int(row["event_id"]), int(row["version"])) for row in rest.run_text(statement, parameters).rows}
