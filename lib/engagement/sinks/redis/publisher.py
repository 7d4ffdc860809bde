"""The public side: the ranking, swapped in atomically, and the contents' statistics. One thread calls it.

Shards are merged by sum, so the partition count may change. The publisher keeps a copy of every shard's totals and asks
only for what changed; whenever a shard's generation is new, its copy may have missed something, or the ranking in Redis
is not the one it wrote (expired, deleted, another publisher), everything is read and swapped in at once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgpack
import redis

from engagement.sinks.redis import keys
from engagement.sinks.redis.client import RedisOptions
from engagement.sinks.redis.faults import OvertakenError, ShardLostError, translated
from engagement.sinks.redis.places import Place
from engagement.sinks.redis.scripts import Call, load, run, run_many
from engagement.sinks.redis.shard import ContentState, Shard, ShardChanges
from engagement.sinks.redis.statistics import StatsWriter
from engagement.sinks.redis.totals import NOTHING, Totals

RANKING_TTL_SECONDS = 60
PAGE = 5000
STATS_SLICE = 100


@dataclass
class _Copy:
    """What the publisher knows of one shard."""

    generation: str = ""
    sequence: int = 0
    next_offset: int = 0
    recount_due: bool = False
    totals: dict[str, Totals] = field(default_factory=dict)

    @property
    def mark(self) -> str:
        return f"{self.generation}:{self.sequence}"


@dataclass(frozen=True)
class Published:
    """What the shards said of themselves that a published ranking was made of."""

    recount_due: bool
    """Whether a shard has left rows out that only a rebuild can count."""
    places: Mapping[int, Place]


class Publisher:
    """Publishes the board of all shards; `now` (epoch seconds) replaces Redis's clock in tests."""

    def __init__(self, client: redis.Redis, options: RedisOptions) -> None:
        self._client = client
        self._options = options
        self._copies: dict[int, _Copy] = {}
        self._marks: dict[str, str] = {}
        self._stats = StatsWriter(client, options)
        self._window_end = 0
        self._unshown: set[str] = set()  # changes read but, after an error, not yet in the ranking
        self._waiting: dict[str, None] = {}  # contents whose statistics are due, oldest first

    def publish(self, partitions: Iterable[int], now: float | None = None) -> Published:
        """Advance every shard, then bring the ranking up to date. Raises: ShardLostError, TransientSinkError."""
        full = self._read(sorted(partitions), now)
        if full or not self._show(self._unshown, full=False):
            full, self._unshown = True, self._unshown.union(self._all_contents())
            self._show(self._unshown, full=True)
        self._marks = {str(partition): copy.mark for partition, copy in self._copies.items()}
        self._waiting |= dict.fromkeys(self._unshown)
        self._unshown = set()
        if full:  # what left the window while nobody published: only the hashes themselves know
            self._waiting |= dict.fromkeys(sorted(self._stats.shown() - set(self._all_contents())))
        due = any(copy.recount_due for copy in self._copies.values())
        places = {partition: (int(copy.generation), copy.next_offset) for partition, copy in self._copies.items()}
        return Published(due, places)

    def publish_stats(self, limit: int = STATS_SLICE) -> int:
        """Write the statistics of up to `limit` contents that are due; returns how many still are."""
        contents = list(self._waiting)[:limit]
        if contents:
            try:
                states, window_end = self._states(contents)
            except ShardLostError:  # a generation was swapped out; if more is wrong, the next publish says so
                return len(self._waiting)
            self._stats.write(states, window_end)
        for content in contents:
            self._waiting.pop(content, None)
        return len(self._waiting)

    def forget(self) -> None:
        """Read everything again next time: after an error nobody knows what was written."""
        self._copies.clear()
        self._marks = {}

    def _read(self, partitions: Sequence[int], now: float | None) -> bool:
        """Update the copies, noting what changed; says whether a copy had to be read anew."""
        if set(partitions) != set(self._copies):
            self._copies = {p: self._copies.get(p, _Copy()) for p in partitions}
            self._marks = {}
        shards = [Shard(self._client, partition) for partition in partitions]
        copies = [self._copies[partition] for partition in partitions]
        calls = [s.tick_call("", c.sequence, PAGE, now) for s, c in zip(shards, copies, strict=True)]
        with translated(partitions[0] if len(partitions) == 1 else None):
            answers = run_many(self._client, calls)
        anew = not self._marks
        for shard, copy, answer in zip(shards, copies, answers, strict=True):
            changes = shard.read_changes(answer)
            if changes.generation != copy.generation or changes.load_everything:
                anew, self._marks = True, {}
                self._unshown.update(copy.totals)
                changes = _load_everything(shard, copy, changes, now)
            self._unshown |= _take_over(copy, changes)
            while changes.more:
                changes = _following(shard, copy, now)
                self._unshown |= _take_over(copy, changes)
            self._note_window(changes.window_end)
        return anew

    def _note_window(self, window_end: int) -> None:
        if window_end != self._window_end:
            self._window_end = window_end
            # Every content's window_start and window_end change; their statistics follow in slices.
            self._waiting |= dict.fromkeys(self._all_contents())

    def _all_contents(self) -> list[str]:
        return list(dict.fromkeys(content for copy in self._copies.values() for content in copy.totals))

    def _merged(self, content: str) -> Totals:
        merged = NOTHING
        for copy in self._copies.values():
            merged += copy.totals.get(content, NOTHING)
        return merged

    def _show(self, contents: Iterable[str], *, full: bool) -> bool:
        """Write the ranking; False when it is not the one this publisher wrote last."""
        merged = {content: self._merged(content) for content in contents}
        shown = {content: totals.units for content, totals in merged.items() if totals.events > 0}
        blob = msgpack.packb(
            {
                "full": full,
                "expected": self._marks,
                "seen": {str(partition): copy.mark for partition, copy in self._copies.items()},
                "shards": len(self._copies),
                "size": self._options.top_size,
                "ttl": RANKING_TTL_SECONDS,
                "contents": list(shown),
                "units": list(shown.values()),
                "gone": [content for content in merged if content not in shown],
            }
        )
        with translated():
            answer = run(self._client, Call(load("ranking"), keys.ranking_keys(self._options.top_key), (blob,)))
        return bool(answer[0] == b"ok")

    def _states(self, contents: Sequence[str]) -> tuple[dict[str, ContentState], int]:
        """Read contents from the shards that hold them.

        A content lives in one shard, except for a while after the partition count changed: then totals add up, and
        unique users are the larger of the counts.
        """
        merged: dict[str, ContentState] = {content: ContentState(NOTHING, 0, None) for content in contents}
        end = self._window_end
        for partition, copy in self._copies.items():
            held = [content for content in contents if content in copy.totals]
            if not held:
                continue
            end, states = Shard(self._client, partition).stats(copy.generation, held)
            for content, state in states.items():
                merged[content] = _merge(merged[content], state)
        return merged, end


def _load_everything(shard: Shard, copy: _Copy, changes: ShardChanges, now: float | None) -> ShardChanges:
    """Read a generation from scratch; what changes meanwhile is asked for afterwards, since `sequence` is older."""
    copy.generation, copy.sequence = changes.generation, changes.sequence
    copy.totals = {content: totals for content, totals in shard.all_totals(changes.generation, PAGE) if any(totals)}
    return _following(shard, copy, now)


def _following(shard: Shard, copy: _Copy, now: float | None) -> ShardChanges:
    changes = shard.tick("", copy.sequence, PAGE, now)
    if changes.generation != copy.generation or changes.load_everything:
        raise OvertakenError(shard.partition)  # swapped meanwhile: the next call reads the new generation
    return changes


def _take_over(copy: _Copy, changes: ShardChanges) -> set[str]:
    copy.sequence, copy.next_offset, copy.recount_due = changes.sequence, changes.next_offset, changes.recount_due
    for content, totals in changes.totals.items():
        if any(totals):
            copy.totals[content] = totals
        else:
            copy.totals.pop(content, None)
    return set(changes.totals)


def _merge(one: ContentState, other: ContentState) -> ContentState:
    times = [at for at in (one.last_event_us, other.last_event_us) if at is not None]
    users = max(one.unique_users, other.unique_users)
    return ContentState(one.totals + other.totals, users, max(times, default=None))
