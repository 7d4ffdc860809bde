"""The lake against the topic: each message once, in one of its two tables."""

from dataclasses import dataclass
from pathlib import Path

from deltalake import DeltaTable
from tests.e2e.support.topic import COLUMNS, Place, TopicOracle, Values, compare


@dataclass
class LakeOracle(TopicOracle):
    """What the lake makes of a topic."""

    folder: Path

    def differences(self) -> list[str]:
        """What differs from what was read of the topic."""
        return [
            *compare("event", self.topic.events, self._rows("enriched_events", COLUMNS)),
            *compare("dead letter", dict(self.topic.letters), self._rows("dead_letters", ("code", "raw_value"))),
        ]

    def _rows(self, table: str, columns: tuple[str, ...]) -> list[tuple[Place, Values]]:
        rows = DeltaTable(self.folder / table).to_pyarrow_table(columns=["kafka_partition", "kafka_offset", *columns])
        partitions, offsets, *values = (column.to_pylist() for column in rows.columns)
        return list(zip(zip(partitions, offsets, strict=True), zip(*values, strict=True), strict=True))
