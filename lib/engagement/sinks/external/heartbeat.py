"""The heartbeat: a small POST that says we are alive, and that tells whether the receiver is, also without traffic."""

import threading
from collections.abc import Callable
from datetime import datetime

from engagement.sinks.external.answers import Answer
from engagement.sinks.external.caller import Caller
from engagement.sinks.external.events import heartbeat_body
from engagement.sinks.external.keys import batch_key

HEARTBEAT_SECONDS = 60.0


class Pulse:
    """Sends a heartbeat when asked; `clock` gives aware times."""

    def __init__(self, caller: Caller, clock: Callable[[], datetime]) -> None:
        self._caller = caller
        self._clock = clock

    def beat(self) -> Answer:
        """Send one, and give its answer."""
        at = self._clock().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return self._caller.post(batch_key(["heartbeat", at]), heartbeat_body(at))

    def close(self) -> None:
        """Let go of the connection."""
        self._caller.close()


class HeartbeatThread:
    """Beats once a minute from `start` to `stop`."""

    def __init__(self, beat: Callable[[], None], seconds: float = HEARTBEAT_SECONDS) -> None:
        self._beat = beat
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, with a beat at once."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(self._stop,), name="heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; one that is under way is not waited for."""
        self._stop.set()

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self._beat()
            stop.wait(self._seconds)
