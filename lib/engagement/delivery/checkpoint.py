"""The checkpoint folder of one query: read for its plan, locked against a second driver, disposable when damaged.

Queries here keep no Spark state, so a checkpoint holds offsets only. The sink's fence holds them too, and wins: a
checkpoint that cannot be true is moved aside and the query starts anew from the fence.
"""

import json
from pathlib import Path

from filelock import FileLock, Timeout

from engagement.delivery.offsets import (
    MOST_GAP_ROWS,
    Bounds,
    TopicOffsets,
    parse_initial_offsets,
    parse_offset_log,
    parse_topic_offsets,
    planned_ranges,
)
from engagement.errors import ContractError, PermanentError
from engagement.identity import Fence, OffsetRange


class Checkpoint:
    """One query's checkpoint on the driver's disk. The constructor touches nothing."""

    def __init__(self, root: Path, name: str) -> None:
        self.path = root / name
        self._lock = FileLock(str(root / f"{name}.lock"))
        self._beginning = root / f"{name}.begins"

    def lock(self) -> None:
        """Take the folder for this process alone; the lock dies with the process.

        The file-system checkpoint manager is four times faster than Spark's default but has no guard against two
        drivers; this is that guard. Raises: PermanentError when another driver holds it, or no folder can be there.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise PermanentError(
                f"another streaming job is using the checkpoint {self.path}; stop it first, "
                f"or give this one its own CHECKPOINT_PATH"
            ) from error
        except OSError as error:
            raise PermanentError(
                f"CHECKPOINT_PATH cannot hold a checkpoint: {self.path.parent}: {error.strerror or error}"
            ) from error

    def unlock(self) -> None:
        """Give the folder back."""
        self._lock.release()

    def ensure_free(self) -> None:
        """Raises: PermanentError when another driver holds it now."""
        self.lock()
        self.unlock()

    def generation(self) -> str:
        """The id Spark gave this checkpoint when it was made. Raises: ContractError if it cannot be read."""
        try:
            return str(json.loads((self.path / "metadata").read_text())["id"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ContractError(f"checkpoint {self.path} has no readable metadata") from error

    def planned_ranges(self, batch_id: int) -> list[OffsetRange]:
        """What Spark planned for a batch; it writes that down before it calls foreachBatch. Raises: ContractError."""
        return planned_ranges(self._start_of(batch_id), self._offsets(batch_id))

    def _start_of(self, batch_id: int) -> TopicOffsets:
        if batch_id > 0:
            return self._offsets(batch_id - 1)
        try:
            return parse_initial_offsets((self.path / "sources" / "0" / "0").read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise ContractError(f"checkpoint {self.path} has no readable initial offsets") from error

    def _offsets(self, batch_id: int) -> TopicOffsets:
        try:
            return parse_offset_log((self.path / "offsets" / str(batch_id)).read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise ContractError(f"checkpoint {self.path} has no readable offset log entry {batch_id}") from error

    def damage(self, topic: str, bounds: Bounds, fence: Fence) -> str | None:
        """Why this checkpoint cannot be true, or None; a folder that does not exist yet is fine.

        Looks at what Spark itself would start from: the metadata, the newest offset log entry and the one before, and
        the newest commit: one without its plan makes Spark fail at every start, since it cannot commit that id again.
        And at where Spark would go on: beyond the sink's fence, what lies between would never be delivered; far before
        it, all that lies between would be read in vain, while nothing new is delivered.
        """
        if not self.path.exists():
            return None
        batches, commits = self._logged_batches("offsets"), self._logged_batches("commits")
        if commits and commits[-1] > (batches[-1] if batches else -1):
            return f"batch {commits[-1]} is noted as done, but its offset log entry is gone"
        try:
            self.generation()
            ranges = [part for part in self.planned_ranges(batches[-1]) if part.topic == topic] if batches else []
            is_done = commits[-1:] == batches[-1:]
            ends = {part.partition: part.end for part in ranges}
            starts = {part.partition: part.start for part in ranges} if batches else self._start_of(0).get(topic, {})
            following = ends if is_done and batches else starts
        except ContractError as error:
            return str(error)
        if not following:
            return f"it is of another topic than {topic}"
        # What a crash leaves planned and delivered, however much it is, is read once more.
        return _contradiction(ranges, bounds) or _ahead(following, bounds, fence) or _far_behind(ends or starts, fence)

    def _logged_batches(self, log: str) -> list[int]:
        names = (entry.name for entry in (self.path / log).glob("*"))
        return sorted(int(name) for name in names if name.isdigit())

    def note_beginning(self, topic_id: str, offsets: Fence) -> None:
        """Note where a query that never ran is to begin, in which topic.

        Spark notes it with the first micro-batch, and a sink can refuse to be opened until much has aged out of Kafka.
        Raises: PermanentError when the folder cannot be written.
        """
        text, draft = json.dumps({topic_id: dict(offsets)}), self._beginning.with_suffix(".draft")
        try:
            draft.write_text(text)
            draft.rename(self._beginning)
        except OSError as error:
            raise PermanentError(f"CHECKPOINT_PATH cannot be written: {error}") from error

    def noted_beginning(self) -> TopicOffsets:
        """What was noted, by the topic's id; of a query that has run it says nothing any more."""
        try:
            return parse_topic_offsets(self._beginning.read_text())
        except (OSError, UnicodeDecodeError, ContractError):
            return {}

    def begun_at(self, topic: str, topic_id: str) -> Fence:
        """Where a query began, or was to begin, of which no micro-batch is noted as done; nothing of any other."""
        if self._logged_batches("commits"):
            return {}
        try:
            return self._start_of(0).get(topic, {})
        except ContractError:
            return {} if self.was_used() else self.noted_beginning().get(topic_id, {})

    def forget_beginning(self) -> None:
        """Once a micro-batch is noted as done: the note would outlive this folder, should somebody delete that."""
        if self._beginning.exists() and self._logged_batches("commits"):
            self._beginning.unlink(missing_ok=True)

    def lost_tails(self, topic: str) -> list[OffsetRange]:
        """What Kafka had lost when the newest micro-batch was planned: Spark plans to a topic's end, also backwards."""
        batches = self._logged_batches("offsets")
        try:
            planned = self.planned_ranges(batches[-1]) if batches else []
        except ContractError:
            return []
        back = [part for part in planned if part.topic == topic and part.end < part.start]
        return [OffsetRange(topic, part.partition, part.end, part.start) for part in back]

    def was_used(self) -> bool:
        """Whether this query has run before, also if its folder was set aside and nothing came of the next start."""
        return self.path.exists() or self._aside(1).exists()

    def set_aside(self) -> Path:
        """Move the folder out of the way, kept for a person to look at; returns where it went."""
        number = 1
        while (target := self._aside(number)).exists():
            number += 1
        self.path.rename(target)
        return target

    def _aside(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.damaged-{number}")


def _contradiction(ranges: list[OffsetRange], bounds: Bounds) -> str | None:
    for part in ranges:
        earliest, end = bounds.get(part.partition, (0, 0))
        if part.end < part.start:
            return f"offsets of partition {part.partition} go back from {part.start} to {part.end}"
        if part.end > end:
            return f"offset {part.end} of partition {part.partition} is beyond the topic's end {end}"
        if part.start < earliest:
            return f"offset {part.start} of partition {part.partition} lies before the topic's first, {earliest}"
    return None


def _ahead(following: Fence, bounds: Bounds, fence: Fence) -> str | None:
    """Where Spark would go on beyond the fence; without one, beyond what the topic begins with."""
    for partition, offset in following.items():
        first, _ = bounds.get(partition, (0, 0))
        if offset > fence.get(partition, first):
            held = f"holds up to {fence[partition]}" if partition in fence else "knows nothing of it"
            return f"it would go on at {offset} of partition {partition}, but the sink {held}"
    return None


def _far_behind(following: Fence, fence: Fence) -> str | None:
    known = sum(max(0, fence.get(partition, offset) - offset) for partition, offset in following.items())
    return f"it would go on {known} messages before what the sink holds" if known > MOST_GAP_ROWS else None
