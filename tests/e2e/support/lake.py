"""The lake against the topic: each message once, in one of its two tables."""

from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from tests.e2e.support.topic import COLUMNS, Added, Place, TopicOracle, Values

_PLACE = ("kafka_partition", "kafka_offset")


@dataclass
class LakeOracle(TopicOracle):
    """What the lake makes of a topic."""

    folder: Path
    _events: Added = field(default_factory=lambda: Added("event"), init=False)
    _letters: Added = field(default_factory=lambda: Added("dead letter"), init=False)

    def differences(self) -> list[str]:
        """What differs from what was read of the topic."""
        events, letters = self.folder / "enriched_events", self.folder / "dead_letters"
        return [
            *self._events.differences(self.topic.events, *rows_of(events, COLUMNS, self._events)),
            *self._letters.differences(
                dict(self.topic.letters), *rows_of(letters, ("code", "raw_value"), self._letters)
            ),
        ]


def rows_of(folder: Path, columns: tuple[str, ...], added: Added) -> tuple[list[tuple[Place, Values]], int]:
    """A table's rows beyond those that were seen, and how many it has in all."""
    table = DeltaTable(folder)
    total = sum(pa.table(table.get_add_actions(flatten=True))["num_records"].to_pylist())
    seen = [
        (pc.field(_PLACE[0]) == partition) & (pc.field(_PLACE[1]) <= offset)
        for partition, offset in added.beyond().items()
    ]
    wanted = ~reduce(pc.Expression.__or__, seen) if seen else None
    rows = table.to_pyarrow_dataset().to_table(columns=[*_PLACE, *columns], filter=wanted)
    partitions, offsets, *values = (column.to_pylist() for column in rows.columns)
    return list(zip(zip(partitions, offsets, strict=True), zip(*values, strict=True), strict=True)), total
