"""From the rows of one Kafka partition, in offset order, to what they change in its shard. Pure: no Redis, no clock.

Incremental: a message's valid `after` adds, its valid `before` takes back; sums commute, so nothing is remembered.
Rebuild (a partition from before the window on): the last share of every event is remembered as well, so that exact
duplicates and snapshot rows cannot count twice, and replays of dead letters count in the place of the message that
they stand for: see replays.py. Outside a rebuild both are only reported, which asks for one.
"""

from collections.abc import Callable

from engagement.schemas import DELETION, SNAPSHOT, TRUNCATE
from engagement.sinks.redis.delta import BUCKET_US, MINUTE_US, Delta, Outcomes, Share
from engagement.sinks.redis.replays import ReplayBook
from engagement.sinks.redis.rows import Rows
from engagement.sinks.redis.shard import Position, ShardState

COMMIT_TIME_STEP_MS = 10

_NO_ID = 0  # stands for a missing event id in Position.ids; real ids are above 0
_BEGINNING = Position(-1, -1, -1)


class ShardAggregator:
    """Aggregates a partition's chunks in order; keeps the position, and in a rebuild every event's last share."""

    def __init__(self, state: ShardState, *, rebuild: bool, since: int = 0) -> None:
        """`since` is the first offset that is read: of what came before, a rebuild knows nothing."""
        self.outcomes = Outcomes()
        self._skip_below = state.next_offset
        self._rebuild = rebuild
        # A rebuild reads again what a former attempt already wrote, so it starts from no position.
        known = None if rebuild else state.position
        start = known or _BEGINNING
        self._place, self._newest_ts, self._ids = (start.commit_lsn, start.lsn), start.ts_ms, set(start.ids)
        self._check_refused = state.refused > 0
        self._refusals: dict[int, bool] = {}
        self._replays = ReplayBook(since)
        self._check_replays = state.replayed > 0
        self._released = (_NO_ID, -1)
        """Event and offset of the message that has ended a replay: its own `before` takes nothing back."""
        self._held: dict[int, tuple[int | None, int, Share | None]] = {}
        self._count: dict[str, Callable[[Rows, int], None]] = {
            "change": self._count_change,
            "dead_letter": self._count_dead_letter,
            "tombstone": self._count_tombstone,
            "move": self._count_move,
        }

    @property
    def position(self) -> Position | None:
        """Newest position seen, None when no row had one."""
        if self._place == (_BEGINNING.commit_lsn, _BEGINNING.lsn):
            return None
        return Position(*self._place, self._newest_ts, frozenset(self._ids))

    def add(self, rows: Rows) -> Delta:
        """Aggregate one chunk; rows below the fence change nothing (a rebuild still learns from them)."""
        delta, below = Delta(), Delta()
        judged, repeat = -1, False
        for i in rows.in_order():
            offset = rows.offsets[i]
            old = offset < self._skip_below
            if old and not self._rebuild:
                self._count_old(rows, i)
                continue
            if offset != judged:
                judged, repeat = offset, self._is_repeat(rows, i)
            if rows.is_version[i]:
                self._count_version(rows, i, old=old, repeat=repeat)
            if not repeat:
                self._act(below if old else delta, rows, i)
        return delta

    def _count_old(self, rows: Rows, i: int) -> None:
        if rows.is_version[i]:
            self.outcomes.read += 1
            self.outcomes.already_delivered += 1

    def _count_version(self, rows: Rows, i: int, *, old: bool, repeat: bool) -> None:
        if old:
            self._count_old(rows, i)
            return
        self.outcomes.read += 1
        if repeat:
            self.outcomes.already_delivered += 1
            self.outcomes.repeats += 1
            return
        self._count[rows.kinds[i]](rows, i)

    def _count_change(self, rows: Rows, i: int) -> None:
        self.outcomes.delivered += 1
        ts = rows.source_ts[i]
        if ts is not None and rows.ops[i] != SNAPSHOT:
            self.outcomes.commit_times_ms[ts - ts % COMMIT_TIME_STEP_MS] += 1

    def _count_dead_letter(self, rows: Rows, i: int) -> None:
        self.outcomes.dead_letters[rows.codes[i] or "unknown"] += 1
        if rows.ops[i] == TRUNCATE:
            self.outcomes.truncations += 1

    def _count_tombstone(self, _rows: Rows, _i: int) -> None:
        self.outcomes.tombstones += 1

    def _count_move(self, _rows: Rows, _i: int) -> None:
        self.outcomes.moves += 1

    def _is_repeat(self, rows: Rows, i: int) -> bool:
        if rows.replay_of[i] is not None:
            return False
        event_id, half = rows.event_ids[i] or _NO_ID, rows.halves[i]
        if self._rebuild and event_id in self._held and rows.versions[i]:
            version, last_half, _ = self._held[event_id]
            if (version, last_half) == (rows.versions[i], half):
                return True
        lsn = rows.lsns[i]
        # A snapshot's rows all name the place where it was taken: they are judged by their event, not by that.
        if lsn is None or rows.ops[i] == SNAPSHOT:
            return False
        return self._is_behind((rows.commit_lsns[i] or 0, lsn), rows.source_ts[i] or 0, (event_id, half))

    def _is_behind(self, place: tuple[int, int], ts_ms: int, row: tuple[int, int]) -> bool:
        if place == self._place:
            if row in self._ids:
                return True
            self._ids.add(row)
            return False
        if place < self._place:
            if ts_ms <= self._newest_ts:
                return True
            self.outcomes.other_database += 1
        self._place, self._ids = place, {row}
        self._newest_ts = max(self._newest_ts, ts_ms)
        return False

    def _act(self, delta: Delta, rows: Rows, i: int) -> None:
        effect, event_id = rows.effects[i], rows.event_ids[i]
        if rows.replay_of[i] is not None:
            self._replay(delta, rows, i, rows.replay_of[i] or 0)
            return
        if event_id is not None:
            self._end_replay(delta, rows, i, event_id)
        if effect > 0:
            self._give(delta, rows, i)
        elif effect < 0:
            self._take(delta, rows, i)
        elif rows.codes[i] and event_id is not None and rows.event_us[i] is not None:
            # Its time says that a later `before` may have the row, valid then, which is not counted here.
            self._check_refused = self._refusals[event_id] = True
            delta.refused[str(event_id)] = rows.event_us[i]
        if not rows.is_version[i] or event_id is None:
            return
        if rows.ops[i] == DELETION:
            self._forget_refusal(delta, event_id)
        if rows.kinds[i] == "change":
            delta.fresh.append(i)

    def _replay(self, delta: Delta, rows: Rows, i: int, replay_of: int) -> None:
        event_id, share = rows.event_ids[i], _share(rows, i)
        if event_id is None or rows.effects[i] == 0:
            return
        if rows.kinds[i] == "change":
            delta.fresh.append(i)
        if not self._rebuild:
            if share:
                delta.snapshots[share.event_us // BUCKET_US] += 1
                delta.replayed[str(event_id)] = share.event_us
        elif self._replays.takes(event_id, replay_of, rows.versions[i] or 0):
            self._release(delta, event_id)
            if rows.effects[i] > 0 and share:
                self._replays.counted.add(event_id)
                delta.replayed[str(event_id)] = share.event_us
                self._add(delta, rows, i, share)

    def _end_replay(self, delta: Delta, rows: Rows, i: int, event_id: int) -> None:
        """The source speaks about an event again: what it says has taken the place of any replay."""
        if not self._rebuild:
            if self._check_replays and rows.is_version[i]:
                delta.touched.append(str(event_id))
            return
        self._replays.note(event_id, rows.offsets[i], rows.versions[i] or 0)
        if event_id in self._replays.counted:
            self._replays.counted.discard(event_id)
            self._released = (event_id, rows.offsets[i])
            delta.replayed[str(event_id)] = None
            self._release(delta, event_id)

    def _release(self, delta: Delta, event_id: int) -> None:
        """Take an event's last share back, whatever a `before` may say."""
        version, half, share = self._held.get(event_id, (None, 0, None))
        if share:
            delta.add(share, -1)
        self._held[event_id] = (version, half, None)

    def _give(self, delta: Delta, rows: Rows, i: int) -> None:
        event_id, share = rows.event_ids[i], _share(rows, i)
        if event_id is None:
            return
        if rows.ops[i] == SNAPSHOT:
            if not self._rebuild:
                if share:
                    delta.snapshots[share.event_us // BUCKET_US] += 1
                return
            self._release(delta, event_id)
        self._add(delta, rows, i, share)

    def _add(self, delta: Delta, rows: Rows, i: int, share: Share | None) -> None:
        event_id = rows.event_ids[i] or _NO_ID
        if self._rebuild:
            self._held[event_id] = (rows.versions[i], rows.halves[i], share)
        self._forget_refusal(delta, event_id)
        if share is None:
            return
        delta.add(share, 1)
        user = rows.user_ids[i]
        if user:
            key = (share.event_us // MINUTE_US, share.content)
            users = delta.users.get(key)
            if users is None:
                delta.users[key] = {user}
            else:
                users.add(user)

    def _take(self, delta: Delta, rows: Rows, i: int) -> None:
        event_id, share = rows.event_ids[i], _share(rows, i)
        if event_id is None or self._released == (event_id, rows.offsets[i]):
            return
        was_held = self._held.get(event_id, (None, 0, None))[2] is not None
        if self._rebuild:
            self._held[event_id] = (rows.versions[i], rows.halves[i], None)
        if share is None or self._refusals.get(event_id):
            return
        if self._check_refused and event_id not in self._refusals and not was_held:
            delta.take_if_counted(event_id, share)
        else:
            delta.add(share, -1)

    def _forget_refusal(self, delta: Delta, event_id: int) -> None:
        if self._check_refused:
            self._refusals[event_id] = False
            delta.refused[str(event_id)] = None


def _share(rows: Rows, i: int) -> Share | None:
    """Give what an image counts, None when it is on no board (no content)."""
    content, at, kind, units = rows.content_ids[i], rows.event_us[i], rows.event_types[i], rows.units[i]
    if content is None or at is None or kind is None or units is None:
        return None
    return Share(content, at, kind, units, rows.durations[i], rows.pcts[i])
