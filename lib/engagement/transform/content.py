"""The catalogue as events are joined with it: on the workers a look-up by id, on the way there a broadcast variable."""

import weakref
from collections import deque
from collections.abc import Mapping
from functools import cached_property

import pyarrow as pa
from pyspark import Broadcast, SparkContext

from engagement.transform.columns import listed

Lengths = Mapping[str, int | None]
"""content_id -> length_seconds: what the score of an event depends on."""


class Contents:
    """The catalogue (contract CONTENT), looked up by content_id. Pickled without the index, which workers make once."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __reduce__(self) -> tuple[type["Contents"], tuple[pa.Table]]:
        return Contents, (self.table,)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {content_id: place for place, content_id in enumerate(self.table["content_id"].to_pylist())}

    @cached_property
    def _columns(self) -> pa.RecordBatch:
        # One chunk, since taking rows out of many copies them all first.
        others = self.table.drop_columns(["content_id"])
        return pa.RecordBatch.from_arrays([column.combine_chunks() for column in others.columns], others.column_names)

    def look_up(self, content_ids: pa.Array) -> tuple[pa.Array, pa.RecordBatch]:
        """The place of each id in the catalogue, NULL where it is unknown or NULL, and the other columns there."""
        places = pa.array(map(self._places.get, listed(content_ids)), pa.int32(), size=len(content_ids))
        return places, self._columns.take(places)


class SharedContents:
    """Contents on their way to the workers: sent to each once, not with every micro-batch.

    Spark keeps a file and a copy per executor for every broadcast variable until it is destroyed. A variable that is
    destroyed under a running task fails it; so this one goes with the next share after the last reference: whoever
    holds one may use it.
    """

    def __init__(self, context: SparkContext, table: pa.Table) -> None:
        _destroy_what_was_let_go()
        self.variable: Broadcast[Contents] = context.broadcast(Contents(table))
        # Python may collect in the middle of a call to Spark's JVM, where a second call on the same connection breaks
        # it and fails the first; so what collects only notes the variable.
        weakref.finalize(self, _let_go.append, (context, self.variable))


_let_go: deque[tuple[SparkContext, Broadcast[Contents]]] = deque()


def _destroy_what_was_let_go() -> None:
    while True:
        try:
            context, variable = _let_go.popleft()
        except IndexError:
            return
        if context._jsc is not None:  # one that was stopped has let go of everything
            variable.destroy()
