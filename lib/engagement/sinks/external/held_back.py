"""Which row versions of a task wait until all else of the micro-batch is out: those of events that moved (moved.py)."""

import pyarrow as pa
import pyarrow.compute as pc

from engagement.sinks.external.events import RowVersion


class HeldBack:
    """Of one task, told of each batch before its versions are sent."""

    def __init__(self) -> None:
        self._moved: frozenset[int] = frozenset()
        self._events: set[tuple[int, int]] = set()
        """Partition, event."""
        self._kafka_ms = 0
        self._times: list[int] = []
        self.versions: list[RowVersion] = []
        """What waits, in the order in which it came."""

    def look_at(self, changes: pa.RecordBatch) -> None:
        """Look for events that moved in. In: CHANGES of one partition, whole messages."""
        self._moved = moved_in(changes)
        latest = pc.max(changes.column("kafka_ts").cast(pa.timestamp("ms", "UTC"), safe=False).cast(pa.int64()))
        self._kafka_ms = latest.as_py() or 0

    def takes(self, version: RowVersion) -> bool:
        """Whether a version waits: it moved in, or follows in its partition one of its event that did."""
        event = version.partition, version.event_id
        if version.offset not in self._moved and event not in self._events:
            return False
        self._events.add(event)
        self.versions.append(version)
        self._times.append(self._kafka_ms)
        return True

    def rows(self) -> list[dict[str, int]]:
        """What waits as rows of outcomes.HELD_FIELD; `kafka_ms` is none of theirs, but as late."""
        return [
            {
                "partition": version.partition,
                "kafka_offset": version.offset,
                "event_id": version.event_id,
                "version": version.version,
                "kafka_ms": at,
            }
            for version, at in zip(self.versions, self._times, strict=True)
        ]


def moved_in(changes: pa.RecordBatch) -> frozenset[int]:
    """Offsets of updates whose former row came elsewhere; those whose former row was invalid are among them.

    In: CHANGES of one partition.
    """
    updates = pc.and_(pc.equal(changes.column("op"), "u"), pc.is_null(changes.column("replay_of")))
    own, offsets = changes.column("is_version"), changes.column("kafka_offset")
    updated = offsets.filter(pc.and_(updates, own))
    if not len(updated):
        return frozenset()
    taken_back = offsets.filter(pc.invert(own))
    return frozenset(updated.filter(pc.invert(pc.is_in(updated, value_set=taken_back))).to_pylist())
