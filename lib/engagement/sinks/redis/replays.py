"""Dead letters that were sent again, as a rebuild counts them: in the place of the message that was refused.

A replay comes late: the source may have said more about its event since, and its own words are the last then. And once
a replay counts, the source's next `before` names a row that was never counted. Sums alone cannot tell either, so no
replay is counted as it comes: one inside the window asks for a rebuild, which reads everything in order and knows.

What a rebuild did not read it cannot judge: a replay of a message from before its beginning counts nothing. An event
of such a message is older than the window, unless its clock was ahead or the correction changed its time.
"""

from dataclasses import dataclass, field


@dataclass
class ReplayBook:
    """One partition's events during a rebuild; mutable."""

    since: int
    """First offset that is read."""
    counted: set[int] = field(default_factory=set)
    """Events whose last share came from a replay."""
    _newest: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Event -> offset and version of the newest message about it; of a replay, the offset that it stands for."""

    def note(self, event_id: int, offset: int, version: int) -> None:
        """The source has said something about an event."""
        self._newest[event_id] = (offset, version)

    def takes(self, event_id: int, replay_of: int, version: int) -> bool:
        """Whether nothing newer than the refused message speaks for the event already.

        By offset, since versions begin again with another database; and by version, since the refused message may
        itself have come a second time, after a newer one.
        """
        place, known = self._newest.get(event_id, (-1, -1))
        if replay_of < max(self.since, place) or version < known:
            return False
        self._newest[event_id] = (replay_of, version)
        return True
