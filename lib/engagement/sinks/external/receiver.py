"""The receiver as the driver sees it: whether it takes anything now, asked by heartbeats."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from engagement.errors import TransientSinkError
from engagement.sinks.external.answers import Verdict
from engagement.sinks.external.caller import Caller
from engagement.sinks.external.gate import Gate, GateState
from engagement.sinks.external.heartbeat import HeartbeatThread, Pulse
from engagement.sinks.external.lane import Halt
from engagement.sinks.external.options import SINK, ExternalOptions
from engagement.sinks.external.outcomes import Part
from engagement.sinks.external.task import backoff_seconds


class GateObserver(Protocol):
    """Told what happens; it must not raise."""

    def waiting(self, reason: str) -> None:
        """Nothing is sent, for this reason."""
        ...

    def state(self, state: str, reason: str = "") -> None:
        """The query is `running` again."""
        ...

    def alarm(self, text: str) -> None:
        """A person has to do something."""
        ...


@dataclass(frozen=True)
class Waiting:
    """How the driver waits."""

    sleep: Callable[[float], object]
    """Ends early when the job is told to stop."""
    give_up: Callable[[], bool]
    """True once it was."""
    clock: Callable[[], datetime]
    """Aware times."""
    monotonic: Callable[[], float] = time.monotonic


class Receiver:
    """The gate, with what moves it; opens nothing before `start`."""

    def __init__(self, options: ExternalOptions, waiting: Waiting, observer: GateObserver) -> None:
        chance = random.Random()  # noqa: S311 spreads clients over time; nothing secret depends on it
        self.gate = Gate(lambda failures: backoff_seconds(failures, chance))
        self._waiting = waiting
        self._observer = observer
        # Two, since a beat of the one may hang while the other asks.
        self._probe, self._pulse = (Pulse(Caller(options), waiting.clock) for _ in range(2))
        self._heartbeat = HeartbeatThread(self._beat)
        self._alarmed = False

    def start(self) -> None:
        """Begin the heartbeat."""
        self._heartbeat.stop()
        self._heartbeat.start()

    def stop(self) -> None:
        """End it; safe to call twice."""
        self._heartbeat.stop()
        self._probe.close()

    def await_passable(self) -> None:
        """Return when something may be sent. Raises: TransientSinkError once the job is told to stop."""
        while not self.gate.is_passable:
            self._tell()
            self._waiting.sleep(self.gate.wait_seconds(self._waiting.monotonic()))
            if self._waiting.give_up():
                raise TransientSinkError(SINK, f"stopping; what is left waits for the next start ({self.gate.reason})")
            if not self.gate.is_passable:
                self.gate.probed(self._probe.beat(), self._waiting.monotonic())

    def failed(self, halt: Halt) -> None:
        """A round came to nothing, or not to its end."""
        self.gate.failed(halt, self._waiting.monotonic())
        self._tell()

    def succeeded(self) -> None:
        """A round went through."""
        self.gate.succeeded()
        self._alarmed = False

    def judge(self, parts: Sequence[Part]) -> None:
        """Open or close the gate after a round."""
        halts = [part.halt for part in parts if part.halt is not None]
        if halts:
            self.failed(max(halts, key=lambda halt: halt.gravity))
        elif not any(part.unsent for part in parts):
            self.succeeded()

    def _tell(self) -> None:
        paused = self.gate.state is GateState.PAUSED
        if paused and not self._alarmed:
            self._observer.alarm(self.gate.reason)
        self._alarmed = paused
        self._observer.waiting(f"{SINK}: {self.gate.reason}")

    def _beat(self) -> None:
        before, answer = self.gate.state, self._pulse.beat()
        fine = answer.verdict in (Verdict.DONE, Verdict.REFUSED)
        if fine and self.gate.is_passable:
            return
        self.gate.probed(answer, self._waiting.monotonic())
        if fine:
            self._observer.state("running")
        elif before is GateState.CLOSED:
            self._tell()
