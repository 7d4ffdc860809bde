"""What the receiver's gate tells, to the person who runs a backfill."""

from collections.abc import Callable


class Teller:
    """Says each reason once (sinks.external.receiver.GateObserver)."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._told = ""

    def waiting(self, reason: str) -> None:
        """Nothing is sent, for this reason."""
        if reason != self._told:
            self._say(f"waiting: {reason}")
        self._told = reason

    def state(self, state: str, reason: str = "") -> None:
        """It is sent to again."""
        self._say(f"external: {state} {reason}".rstrip())
        self._told = ""

    def alarm(self, text: str) -> None:
        """A person has to do something."""
        self._say(f"external: nothing goes on until somebody acts: {text}")
