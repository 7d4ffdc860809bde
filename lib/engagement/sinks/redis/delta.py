"""What a chunk of rows changes in its shard, as numbers that commute, and how it travels to apply.lua."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgpack

from engagement.identity import BatchIdentity
from engagement.sinks.redis.keys import STEP_SECONDS
from engagement.sinks.redis.shard import Position

BUCKET_US = STEP_SECONDS * 1_000_000
MINUTE_US = 60_000_000
REFUSED_LIMIT = 100_000
"""Refused rows remembered per shard; those farthest ahead are forgotten first."""
STAMPS = 9
"""Place of the times in a sum: {offset_us, count, …} after the nine numbers of Totals."""
TYPE_PLACE = {"play": 2, "pause": 3, "finish": 4, "click": 5}

Sum = list[Any]


class Share(NamedTuple):
    """What one row image adds to one content (or takes from it)."""

    content: str
    event_us: int
    event_type: str
    units: int
    duration_ms: int | None
    pct_hundredths: int | None


@dataclass
class Outcomes:
    """What became of a range's messages; `read` is the sum of all outcomes (repeats are among already_delivered)."""

    read: int = 0
    delivered: int = 0
    dead_letters: Counter[str] = field(default_factory=Counter)
    truncations: int = 0
    """Of the dead letters."""
    tombstones: int = 0
    moves: int = 0
    already_delivered: int = 0
    repeats: int = 0
    other_database: int = 0
    """Messages with an older LSN but a newer commit time: taken, and an alarm."""
    commit_times_ms: Counter[int] = field(default_factory=Counter)


@dataclass
class Delta:
    """Mutable while a chunk is aggregated."""

    sums: dict[int, dict[str, Sum]] = field(default_factory=dict)
    """bucket -> content -> nine numbers and the times."""
    images: Counter[int] = field(default_factory=Counter)
    """bucket -> images, so that the script can count those that are late."""
    takes: list[tuple[str, int, str, Sum]] = field(default_factory=list)
    """(event id, bucket, content, sum): taken back unless the shard remembers the row as refused."""
    users: dict[tuple[int, str], set[str]] = field(default_factory=dict)
    snapshots: Counter[int] = field(default_factory=Counter)
    refused: dict[str, int | None] = field(default_factory=dict)
    """event id -> its event time in microseconds (refused), or None: forget it."""
    replayed: dict[str, int | None] = field(default_factory=dict)
    """event id -> event time in microseconds of a replay that speaks for it, or None: it does no more."""
    touched: list[str] = field(default_factory=list)
    """Events with a new message, in a shard that remembers replays: of these only a recount knows what counts."""
    fresh: list[int] = field(default_factory=list)
    """Numbers of the rows that are an event's newest version, whatever its content."""

    def add(self, share: Share, sign: int) -> None:
        """Add an image to the sums, or take it back."""
        bucket = share.event_us // BUCKET_US
        contents = self.sums.get(bucket)
        if contents is None:
            contents = self.sums[bucket] = {}
        total = contents.get(share.content)
        if total is None:
            total = contents[share.content] = [0, 0, 0, 0, 0, 0, 0, 0, 0, []]
        add_share(total, share, sign)
        self.images[bucket] += 1

    def take_if_counted(self, event_id: int, share: Share) -> None:
        """Take an image back, unless the shard knows that it never counted."""
        total: Sum = [0, 0, 0, 0, 0, 0, 0, 0, 0, []]
        add_share(total, share, 1)
        self.takes.append((str(event_id), share.event_us // BUCKET_US, share.content, total))

    def pack(self, header: "Header") -> bytes:
        """Give the argument of apply.lua."""
        replayed = [(at, event_id) for event_id, at in self.replayed.items() if at is not None]
        refused = [(at, event_id) for event_id, at in self.refused.items() if at is not None]
        return bytes(
            msgpack.packb(
                {
                    "generation": header.generation,
                    "live": header.live,
                    "now": "" if header.now is None else repr(header.now),
                    "from": header.start,
                    "to": header.end,
                    "fence": header.fields(),
                    "buckets": [(b, self.images[b], list(c), list(c.values())) for b, c in self.sums.items()],
                    "takes": self.takes,
                    "users": [(minute, content, list(users)) for (minute, content), users in self.users.items()],
                    "snapshots": [number for pair in self.snapshots.items() for number in pair],
                    "refused_add": [value for pair in refused for value in pair],
                    "refused_drop": [event_id for event_id, at in self.refused.items() if at is None],
                    "refused_limit": REFUSED_LIMIT,
                    "replayed_add": [value for pair in replayed for value in pair],
                    "replayed_drop": [event_id for event_id, at in self.replayed.items() if at is None],
                    "touched": self.touched,
                }
            )
        )


@dataclass(frozen=True)
class Header:
    """Which range a delta covers, where it goes, and what the fence then says."""

    generation: str
    start: int
    end: int
    topic_id: str
    identity: BatchIdentity
    position: Position | None = None
    live: bool = True
    """Whether the generation must be the current one (false while it is being built)."""
    now: float | None = None
    """Epoch seconds instead of Redis's clock, for tests."""

    def fields(self) -> list[str]:
        """Give the fence's fields and values; LSNs as text, since they may pass 2^53."""
        values = {
            "topic_id": self.topic_id,
            "by_app": self.identity.app_id,
            "by_generation": self.identity.generation,
            "by_batch": str(self.identity.batch_id),
        }
        if self.position:
            values |= {
                "commit_lsn": str(self.position.commit_lsn),
                "lsn": str(self.position.lsn),
                "ts_ms": str(self.position.ts_ms),
                "ids": ",".join(f"{event_id}:{half}" for event_id, half in self.position.ids),
            }
        return [text for pair in values.items() for text in pair]


def add_share(total: Sum, share: Share, sign: int) -> None:
    """Add one image to a sum, `sign` times."""
    _, event_us, event_type, units, duration_ms, pct_hundredths = share
    total[0] += sign * units
    total[1] += sign
    total[TYPE_PLACE[event_type]] += sign
    if duration_ms is not None:
        total[6] += sign * duration_ms
    if pct_hundredths is not None:
        total[7] += sign * pct_hundredths
        total[8] += sign
    total[STAMPS] += (event_us % BUCKET_US, sign)
