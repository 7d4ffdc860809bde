"""How one person goes through one content: play ... pause ... finish, or a newsletter's opening and clicks. Pure."""

from dataclasses import dataclass
from random import Random
from typing import Literal

from engagement.generator.catalogue import ContentRow

EventType = Literal["play", "pause", "finish", "click"]

_DEVICES = ("ios", "ios", "android", "android", "web", "web", "smart-tv", "car", None)
_FINISH_FROM_PLAY = 0.45
_RESUME_FROM_PAUSE = 0.75
_CLICK_IN_MEDIA = 0.06
_LISTENED_TWICE = 0.02
_NEWSLETTER_FINISH = 0.3
_READING_SECONDS = (5.0, 240.0)
_TYPICAL_SECONDS = 300


@dataclass(frozen=True)
class Step:
    """What happens next in a session; `duration_ms` is None for a click and for the opening of a newsletter."""

    event_type: EventType
    duration_ms: int | None


class Session:
    """One person with one content (None: the event names none); `over` says that nothing more will happen."""

    __slots__ = ("content", "device", "key", "over", "playing", "position_ms", "started", "user_id")

    def __init__(self, content: ContentRow | None, user_id: str | None, chance: Random) -> None:
        self.content = content
        self.user_id = user_id
        self.device = chance.choice(_DEVICES)
        self.key = f"{chance.getrandbits(48):012x}"
        self.started = False
        self.playing = False
        self.over = False
        self.position_ms = 0

    def step(self, chance: Random) -> Step:
        """Take the next step and move on."""
        if self.content is not None and self.content.content_type == "newsletter":
            return self._read(chance)
        return self._listen(chance)

    def _read(self, chance: Random) -> Step:
        if not self.started:
            self.started = True
            return Step("play", None)
        if chance.random() >= _NEWSLETTER_FINISH:
            return Step("click", None)
        self.over = True
        return Step("finish", int(1_000 * chance.uniform(*_READING_SECONDS)))

    def _listen(self, chance: Random) -> Step:
        if self.started and chance.random() < _CLICK_IN_MEDIA:
            return Step("click", None)
        if not self.playing:
            return self._play(chance)
        length_ms = 1_000 * ((self.content.length_seconds if self.content else None) or _TYPICAL_SECONDS)
        if chance.random() < _FINISH_FROM_PLAY:
            self.over = True
            share = chance.uniform(1.0, 1.3) if chance.random() < _LISTENED_TWICE else chance.uniform(0.8, 1.0)
            return Step("finish", int(length_ms * share))
        self.playing = False
        self.position_ms = int(chance.uniform(self.position_ms, length_ms))
        # A person who does not come back leaves the session at its pause.
        self.over = chance.random() >= _RESUME_FROM_PAUSE
        return Step("pause", self.position_ms)

    def _play(self, chance: Random) -> Step:
        self.started = self.playing = True
        # Players report how much they had buffered or heard at the press of the button: a second or two.
        return Step("play", self.position_ms + chance.randrange(2_000))
