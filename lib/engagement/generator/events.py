"""The event rows: deterministic for a seed and the times they are asked for. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import NamedTuple

from engagement.generator.catalogue import ContentRow, make_catalogue, random_uuid
from engagement.generator.popularity import SHIFT_ROWS, SHIFT_SECONDS, Popularity
from engagement.generator.sessions import EventType, Session


class EventRow(NamedTuple):
    """A row of `engagement_events` before it has an id."""

    content_id: str | None
    user_id: str | None
    event_type: EventType
    event_ts: datetime
    duration_ms: int | None
    device: str | None
    raw_payload: dict[str, object] | None


@dataclass(frozen=True)
class Traits:
    """Shares (0..1) and sizes that shape the events; `late_seconds` is how late a late event is, from and to."""

    users: int = 20_000
    open_sessions: int = 2_000
    continues: float = 0.7
    without_user: float = 0.03
    without_content: float = 0.01
    without_payload: float = 0.05
    late: float = 0.01
    late_seconds: tuple[float, float] = (30.0, 3_600.0)
    delay_seconds: float = 0.25
    """Longest time from the press of a button to the row of an event that is not late; most are much nearer to 0."""
    moved_updates: float = 0.02
    """Share of updates that give the event another content: rare in life, and the hardest case for every reader."""


class EventFactory:
    """Makes event rows; the same seed, catalogue and times give the same rows, whatever is changed in between.

    With `shift_by_rows` popularity shifts by the number of rows, not by their times: rows that come as fast as the
    machine writes are the same on every machine then, but for their times.
    """

    def __init__(
        self,
        seed: int,
        catalogue: Sequence[ContentRow] | None = None,
        traits: Traits | None = None,
        *,
        shift_by_rows: bool = False,
    ) -> None:
        self.catalogue = tuple(catalogue) if catalogue is not None else make_catalogue()
        self._traits = traits or Traits()
        self._chance = Random(seed)  # noqa: S311 - test data
        self._changes = Random(f"{seed} changes")  # noqa: S311 - test data
        self._shift_by_rows = shift_by_rows
        period = SHIFT_ROWS if shift_by_rows else SHIFT_SECONDS
        self._popularity = Popularity(self.catalogue, self._chance, Random(f"{seed} shifts"), period)  # noqa: S311
        self._users = [random_uuid(self._chance) for _ in range(self._traits.users)]
        self._open: list[Session] = []
        self._made = 0

    def events(self, times: Sequence[float]) -> list[EventRow]:
        """Return one row for each time (epoch seconds, never going back) at which a row is inserted."""
        return [self._event(now) for now in times]

    def corrected(self, row: EventRow) -> EventRow:
        """Return the row as an update leaves it: mostly another duration, sometimes another type or content."""
        chance = self._changes
        if chance.random() < self._traits.moved_updates:
            return row._replace(content_id=chance.choice(self.catalogue).id)
        if row.duration_ms is None:
            return row._replace(event_type="finish" if row.event_type == "play" else "click")
        return row._replace(duration_ms=int(row.duration_ms * chance.uniform(0.5, 1.1)))

    def pick(self, count: int, size: int) -> list[int]:
        """Return `count` different places of a list of `size` (all of them when there are fewer)."""
        return self._changes.sample(range(size), min(count, size))

    def _event(self, now: float) -> EventRow:
        session = self._session(self._made if self._shift_by_rows else now)
        self._made += 1
        step = session.step(self._chance)
        content = session.content
        return EventRow(
            content.id if content else None,
            session.user_id,
            step.event_type,
            datetime.fromtimestamp(now - self._age(), UTC),
            step.duration_ms,
            session.device,
            self._payload(session),
        )

    def _session(self, now: float) -> Session:
        """Continue one of the open sessions or begin one; sessions that are over leave the list when met."""
        chance, sessions = self._chance, self._open
        if sessions and (len(sessions) >= self._traits.open_sessions or chance.random() < self._traits.continues):
            place = int(chance.random() * len(sessions))
            session = sessions[place]
            if not session.over:
                return session
            sessions[place] = sessions[-1]
            sessions.pop()
        session = Session(self._content(now), self._user(), chance)
        sessions.append(session)
        return session

    def _content(self, now: float) -> ContentRow | None:
        chosen = self._popularity.choose(now)
        return None if self._chance.random() < self._traits.without_content else chosen

    def _user(self) -> str | None:
        if self._chance.random() < self._traits.without_user:
            return None
        # Squared: some people come far more often than others.
        return self._users[int(self._chance.random() ** 2 * len(self._users))]

    def _age(self) -> float:
        traits = self._traits
        if self._chance.random() < traits.late:
            return self._chance.uniform(*traits.late_seconds)
        return float(self._chance.random() ** 3) * traits.delay_seconds

    def _payload(self, session: Session) -> dict[str, object] | None:
        if self._chance.random() < self._traits.without_payload:
            return None
        return {"session": session.key, "position_ms": session.position_ms, "app": "4.2.0"}
