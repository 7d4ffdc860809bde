"""The lake's fence: it travels with the commit that adds the rows, and only its successor can be committed once.

Where it lies: as JSON in the commit's `userMetadata`, together with the rows, in one Delta transaction.

Why two drivers cannot both write: a commit carries a Delta transaction id that is made of the fence it goes on from
(`successor`). Delta lets each such id be committed once; of two commits that race, the second fails; one that comes
later is left out, which reading the fence again shows. Both then go on from the new fence.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engagement.errors import ContractError
from engagement.identity import BatchIdentity, OffsetRange

_KEY = "engagement_fence"


@dataclass(frozen=True)
class LakeFence:
    """Next offset per partition of one topic; `topic_id` changes when a topic is deleted and made again."""

    topic_id: str
    next_offsets: Mapping[int, int]

    def after(self, ranges: Sequence[OffsetRange]) -> "LakeFence":
        """The fence once these ranges are in the table; it never goes back.

        >>> LakeFence("t", {0: 7}).after([OffsetRange("events", 0, 5, 6), OffsetRange("events", 1, 0, 3)]).next_offsets
        {0: 7, 1: 3}
        """
        offsets = dict(self.next_offsets)
        for part in ranges:
            offsets[part.partition] = max(part.end, offsets.get(part.partition, 0))
        return LakeFence(self.topic_id, offsets)

    @property
    def successor(self) -> str:
        """Id of the one transaction that may follow this fence."""
        return hashlib.sha256(self._text.encode()).hexdigest()

    @property
    def _text(self) -> str:
        offsets = {str(partition): offset for partition, offset in sorted(self.next_offsets.items())}
        return json.dumps({"topic_id": self.topic_id, "next": offsets})

    def to_metadata(self, identity: BatchIdentity) -> str:
        """What a commit carries: the fence after it, and which micro-batch it was, for people."""
        return json.dumps({_KEY: json.loads(self._text), "batch": str(identity)})


def fence_of(metadata: str | None) -> LakeFence | None:
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
        return LakeFence(str(fence["topic_id"]), {int(p): int(offset) for p, offset in fence["next"].items()})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ContractError(f"a commit of the lake carries a fence that cannot be read: {metadata!r}") from error
