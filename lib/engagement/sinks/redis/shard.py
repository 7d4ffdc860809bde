"""One shard of the board: typed calls of its scripts. Every call is one atomic act in one slot."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis

from engagement.sinks.redis import keys
from engagement.sinks.redis.faults import FenceBehindError, OvertakenError, ShardLostError, translated
from engagement.sinks.redis.places import Place
from engagement.sinks.redis.scripts import Call, Value, load, run
from engagement.sinks.redis.totals import Totals, unpack_totals

Answer = list[Any]
HELD_CONTENTS = 5000
"""Contents that one call looks up."""


@dataclass(frozen=True)
class Position:
    """Newest `source.sequence` of a partition, the newest commit time, and the rows seen at exactly that place."""

    commit_lsn: int
    lsn: int
    ts_ms: int
    ids: frozenset[tuple[int, int]] = frozenset()
    """(event_id, half); COPY gives many rows one LSN."""


@dataclass(frozen=True)
class ShardState:
    """What a writer knows of a shard before it aggregates."""

    generation: str
    next_offset: int
    topic_id: str = ""
    window_end: int = 0
    window_seconds: int = 600
    position: Position | None = None
    refused: int = 0
    """Rows remembered as refused, which a later message may take back all the same."""
    replayed: int = 0
    """Events that count by a replay, whose later messages name another `before`."""
    recount_due: bool = False
    """Whether rows lie below the fence that only a rebuild can count."""

    @property
    def place(self) -> Place:
        """What only grows, unless Redis goes back in time."""
        return int(self.generation), self.next_offset


@dataclass(frozen=True)
class Applied:
    """What apply.lua did with a delta; counts are row images."""

    late: int
    snapshots: int
    """Snapshot rows and replays inside the window or ahead of it (not applied), messages that follow such a replay."""


@dataclass(frozen=True)
class ShardChanges:
    """What changed in a shard since a sequence; `totals` are absolute, NOTHING for a content that left."""

    generation: str
    window_end: int
    sequence: int
    more: bool
    load_everything: bool
    next_offset: int = 0
    recount_due: bool = False
    totals: Mapping[str, Totals] = field(default_factory=dict)


@dataclass(frozen=True)
class ContentState:
    """One content in one shard at one moment."""

    totals: Totals
    unique_users: int
    last_event_us: int | None


@dataclass(frozen=True)
class Shard:
    """The shard of one Kafka partition."""

    client: redis.Redis
    partition: int

    def state(self, generation: str = "") -> ShardState:
        """Read the fence. Raises: ShardLostError, TransientSinkError."""
        with translated(self.partition):
            return self.read_state(run(self.client, self.state_call(generation)))

    def state_call(self, generation: str = "") -> Call:
        """Give the call of `state`, for a pipeline over shards."""
        return self._call("state", generation)

    def read_state(self, raw: Answer) -> ShardState:
        """Read its answer. Raises: ShardLostError."""
        answer = _checked(self.partition, raw)
        head = {name.decode(): value.decode() for name, value in zip(answer[2::2], answer[3::2], strict=True)}
        return ShardState(
            generation=head["generation"],
            next_offset=int(head["next"]),
            topic_id=head.get("topic_id", ""),
            window_end=int(head["window_end"]),
            window_seconds=int(head["window_seconds"]),
            position=_position(head),
            refused=int(answer[0]),
            replayed=int(answer[1]),
            recount_due="recount_due" in head,
        )

    def apply(self, blob: bytes) -> Applied:
        """Add a delta and move the fence. Raises: OvertakenError, FenceBehindError, ShardLostError."""
        return Applied(*(int(value) for value in self._run("apply", blob)))

    def tick_call(self, generation: str = "", since: int = 0, page: int = 0, now: float | None = None) -> Call:
        """Give the call of `tick`, for a pipeline over shards."""
        return self._call("tick", generation, since, page, "" if now is None else now)

    def tick(self, generation: str = "", since: int = 0, page: int = 0, now: float | None = None) -> ShardChanges:
        """Advance the window to now and read what changed since a sequence. Raises: ShardLostError."""
        with translated(self.partition):
            return self.read_changes(run(self.client, self.tick_call(generation, since, page, now)))

    def read_changes(self, answer: Answer) -> ShardChanges:
        """Read tick's answer. Raises: ShardLostError."""
        generation, window_end, sequence, more, everything, following, due, *flat = _checked(self.partition, answer)
        return ShardChanges(
            generation=generation.decode(),
            window_end=int(window_end),
            sequence=int(sequence),
            more=bool(more),
            load_everything=bool(everything),
            next_offset=int(following),
            recount_due=bool(int(due)),
            totals={c.decode(): unpack_totals(t) for c, t in zip(flat[::2], flat[1::2], strict=True)},
        )

    def all_totals(self, generation: str, page: int) -> Iterator[tuple[str, Totals]]:
        """Give every content's totals; those that change meanwhile may come old, new or twice."""
        with translated(self.partition):
            key = keys.generation_key(self.partition, generation, "totals")
            for content, packed in self.client.hscan_iter(key, count=page):
                yield content.decode(), unpack_totals(packed)

    def stats(self, generation: str, contents: Sequence[str]) -> tuple[int, dict[str, ContentState]]:
        """Read contents at one moment, with the window's end. Raises: ShardLostError, TransientSinkError."""
        window_end, *flat = self._run("stats", generation, *contents)
        states = {
            content: ContentState(unpack_totals(totals), int(users), int(last) if last else None)
            for content, totals, users, last in zip(contents, flat[::3], flat[1::3], flat[2::3], strict=True)
        }
        return int(window_end), states

    def held(self, contents: Sequence[str]) -> set[str]:
        """Of some contents, those with events in the window or ahead of it. Raises: ShardLostError."""
        asked = [contents[start : start + HELD_CONTENTS] for start in range(0, len(contents), HELD_CONTENTS)]
        return {content.decode() for some in asked for content in self._run("held", *some)}

    def recount(self, cursor: int = 0, count: int = 200, generation: str = "") -> tuple[int, int, int]:
        """Compare totals with buckets: (next cursor, 0 at the end; contents compared; contents that differ)."""
        following, compared, differ = self._run("recount", generation, cursor, count)
        return int(following), int(compared), int(differ)

    def new_generation(
        self, next_offset: int, topic_id: str, window_seconds: int, now: float | None = None
    ) -> tuple[str, str]:
        """Begin an empty generation beside the current one, dropping any other unfinished one: (it, the current)."""
        arguments = (next_offset, topic_id, window_seconds, "" if now is None else now)
        generation, current = self._run("generation", "new", *arguments)
        return generation.decode(), current.decode()

    def swap(self, generation: str, current: str) -> None:
        """Make a generation the current one, if `current` still is, and drop the others. Raises: OvertakenError."""
        self._run("generation", "swap", generation, current)

    def drop(self, generation: str) -> None:
        """Delete a generation that is not the current one; user counters expire by themselves."""
        self._run("generation", "drop", generation)

    def retire(self) -> None:
        """Delete the whole shard; user counters expire by themselves."""
        self._run("generation", "retire")

    def _call(self, name: str, *arguments: Value) -> Call:
        return Call(load(name), (keys.current(self.partition),), arguments)

    def _run(self, name: str, *arguments: Value) -> Answer:
        with translated(self.partition):
            return _checked(self.partition, run(self.client, self._call(name, *arguments)))


def _checked(partition: int, answer: Answer) -> Answer:
    status, *rest = answer
    word = status.decode()
    if word == "ok":
        return rest
    if word == "behind":
        raise FenceBehindError(partition, int(rest[0]))
    if word in {"ahead", "moved"}:
        raise OvertakenError(partition)
    raise ShardLostError(partition, " ".join([word, *(part.decode() for part in rest)]))


def _position(head: Mapping[str, str]) -> Position | None:
    if not head.get("lsn"):
        return None
    pairs = (pair.split(":") for pair in head.get("ids", "").split(",") if pair)
    ids = frozenset((int(event_id), int(half)) for event_id, half in pairs)
    return Position(int(head["commit_lsn"]), int(head["lsn"]), int(head["ts_ms"]), ids)
