"""What waits for a lane: bounded in events and in characters, so that a slow receiver holds up the reader."""

import threading
from collections import deque
from collections.abc import Callable

from engagement.sinks.external.events import Event

_POLL_SECONDS = 0.5
"""Only for looking at the time limit; whoever waits is woken by what it waits for."""


class Inbox:
    """One thread puts, another takes."""

    def __init__(self, most_events: int, most_characters: int) -> None:
        self._most_events = most_events
        self._most_characters = most_characters
        self._events: deque[Event] = deque()
        self._characters = 0
        self._ended = False
        self._changed = threading.Condition()

    def put(self, event: Event, given_up: Callable[[], bool]) -> bool:
        """Add an event once there is room; false when `given_up` says so before."""
        with self._changed:
            while self._is_full:
                if given_up():
                    return False
                self._changed.wait(_POLL_SECONDS)
            self._events.append(event)
            self._characters += len(event.body)
            self._changed.notify_all()
        return True

    def end(self) -> None:
        """Nothing follows."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def take(self, most_events: int, most_characters: int) -> list[Event]:
        """So many events, fewer only at the end or when they are large; empty when nothing follows."""
        taken: list[Event] = []
        characters = 0
        with self._changed:
            while len(taken) < most_events and characters < most_characters:
                if self._events:
                    taken.append(self._events.popleft())
                    characters += len(taken[-1].body)
                    self._characters -= len(taken[-1].body)
                    self._changed.notify_all()
                elif self._ended:
                    break
                else:
                    self._changed.wait()
        return taken

    @property
    def _is_full(self) -> bool:
        return len(self._events) >= self._most_events or self._characters >= self._most_characters
