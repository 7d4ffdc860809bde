"""A Delta table's fence: it travels with the commit that adds the rows, and only its successor can be committed once.

Where it lies: as JSON in the commit's `userMetadata`, together with the rows, in one Delta transaction.

Why two drivers cannot both write: a commit carries a Delta transaction id that is made of the fence it goes on from
(`successor`). Delta lets each such id be committed once; of two commits that race, the second fails; one that comes
later is left out, which reading the fence again shows. Both then go on from the new fence.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from engagement.errors import ContractError
from engagement.identity import BatchIdentity, OffsetRange
from engagement.sinks.source_log import Place

_KEY = "engagement_fence"


@dataclass(frozen=True)
class DeltaFence:
    """How far a table has got in one topic; `topic_id` changes when a topic is deleted and made again."""

    topic_id: str
    next_offsets: Mapping[int, int]
    places: Mapping[int, Place] = field(default_factory=dict)
    """Partition -> the farthest place in the source's log whose changes the table holds."""
    islands: int = 0
    """Above 0: the table also holds rows at or beyond the next offsets, with gaps between them. It counts the commits
    since there were none, so that a commit of such rows alone moves the fence too."""

    def after(self, ranges: Sequence[OffsetRange], places: Mapping[int, Place]) -> "DeltaFence":
        """The fence once these ranges, whose changes reach to these places, are in the table; it never goes back.

        >>> ranges = [OffsetRange("events", 0, 5, 6), OffsetRange("events", 1, 0, 3)]
        >>> DeltaFence("t", {0: 7}).after(ranges, {}).next_offsets
        {0: 7, 1: 3}
        """
        offsets, farthest = dict(self.next_offsets), dict(self.places)
        for part in ranges:
            offsets[part.partition] = max(part.end, offsets.get(part.partition, 0))
        for partition, place in places.items():
            farthest[partition] = max(place, farthest.get(partition, place))
        return DeltaFence(self.topic_id, offsets, farthest)

    @property
    def progress(self) -> tuple[int, int]:
        """Grows with every step: of two fences of a topic it tells the later, whatever commit came last.

        >>> DeltaFence("t", {0: 7, 1: 3}).progress < DeltaFence("t", {0: 7, 1: 3}, islands=1).progress
        True
        """
        return sum(self.next_offsets.values()), self.islands

    @property
    def successor(self) -> str:
        """Id of the one transaction that may follow this fence."""
        return hashlib.sha256(json.dumps(self._document()).encode()).hexdigest()

    def to_metadata(self, identity: BatchIdentity) -> str:
        """What a commit carries: the fence after it, and which micro-batch it was, for people."""
        return json.dumps({_KEY: self._document(), "batch": str(identity)})

    def to_carried(self, chunk: str) -> str:
        """What a backfill's commit carries: the fence as it was."""
        return json.dumps({_KEY: self._document(), "backfill": chunk})

    def _document(self) -> dict[str, object]:
        document: dict[str, object] = {
            "topic_id": self.topic_id,
            "next": {str(partition): offset for partition, offset in sorted(self.next_offsets.items())},
            "places": {str(partition): list(place) for partition, place in sorted(self.places.items())},
        }
        return {**document, "islands": self.islands} if self.islands else document


def fence_of(metadata: str | None) -> DeltaFence | None:
    """The fence in a commit's metadata; None when it carries none (made by somebody else, or upkeep).

    Raises: ContractError when it carries one that cannot be read.
    """
    try:
        found = json.loads(metadata or "null")
    except ValueError:
        return None
    if not isinstance(found, dict) or _KEY not in found:
        return None
    try:
        fence = found[_KEY]
        places = {int(p): (int(commit), int(own)) for p, (commit, own) in fence["places"].items()}
        offsets = {int(p): int(offset) for p, offset in fence["next"].items()}
        return DeltaFence(str(fence["topic_id"]), offsets, places, int(fence.get("islands", 0)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ContractError(f"a commit carries a fence that cannot be read: {metadata!r}") from error
