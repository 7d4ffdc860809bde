"""Which row versions of a task wait until all else of the micro-batch is out: those of events that moved (moved.py)."""

import pyarrow as pa
import pyarrow.compute as pc

from engagement.sinks.external.events import RowVersion

_LATER = pa.array(["u", "d"])


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
    """Offsets of changes whose former row may have come elsewhere.

    These are updates without the row that they take back (also those whose former row was invalid), and updates and
    deletions of rows without a content: a message without a key may be in any partition. In: CHANGES of one partition.
    """
    own, offsets = changes.column("is_version"), changes.column("kafka_offset")
    later = pc.is_in(changes.column("op"), value_set=_LATER)
    changed = pc.and_(pc.and_(own, later), pc.is_null(changes.column("replay_of")))
    if not pc.any(changed).as_py():
        return frozenset()
    arrived = pc.invert(pc.is_in(offsets, value_set=offsets.filter(pc.invert(own))))
    moved = pc.and_(pc.equal(changes.column("op"), "u"), arrived)
    keyless = pc.is_null(changes.column("content_id"))
    return frozenset(offsets.filter(pc.and_(changed, pc.or_(moved, keyless))).to_pylist())
