"""What only an operator does to the warehouse: take out copies of rows."""

from collections.abc import Sequence

from engagement.sinks.bigquery.rest import Rest
from engagement.sinks.bigquery.rows import ROWS

_IDS = 1_000
"""Events a statement names."""


def drop_copies(rest: Rest, ids: Sequence[int]) -> None:
    """Leave one row of each version of some events. Raises: TransientSinkError, PermanentSinkError."""
    for at in range(0, len(ids), _IDS):
        named = ", ".join(str(int(number)) for number in ids[at : at + _IDS])
        rest.run("drop_copies", columns=", ".join(ROWS.names), ids=named)
