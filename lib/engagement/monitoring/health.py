"""Health: what a component's reading means, how the whole is judged, and the threads that keep readings fresh.

A component is healthy, degraded (works, not as promised), unhealthy (does not work) or unknown (nobody can say);
rules.py has the table. Readings are cached: asking does no I/O, so a service that hangs cannot make it hang.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from engagement.errors import EngagementError
from engagement.monitoring.measures import Measured

PROBE_LIMIT_SECONDS = 3.0
"""A check that has run for longer counts as no answer; a little above the limits of the clients themselves."""

Detail = str | int | float | bool | None


class HealthStatus(StrEnum):
    """How a component, or the whole, is."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Reading:
    """What a probe found out about one component; reasons and details hold no data, address or secret."""

    component: str
    status: HealthStatus
    reason: str = ""
    critical: bool = True
    details: Mapping[str, Detail] = field(default_factory=dict)
    measured: tuple[Measured, ...] = ()
    """Values of metrics that the probe has learnt."""


@dataclass(frozen=True)
class ComponentHealth:
    """A reading with its history: `since` and `checked_at` in epoch seconds, `latency_ms` of the last check."""

    reading: Reading
    since: float
    checked_at: float | None = None
    latency_ms: float | None = None


class ProbeError(EngagementError):
    """The service did not answer as it should; the text says how, without data or secrets."""


class Probe(Protocol):
    """One read-only question to one service, answered by readings of one or more components."""

    @property
    def interval_seconds(self) -> float:
        """Pause between two checks."""

    @property
    def expects(self) -> Sequence[Reading]:
        """Components that must exist, the service itself first, as they are before the first answer (unknown)."""

    def check(self) -> Sequence[Reading]:
        """Ask; raises ProbeError when the service does not answer."""

    def close(self) -> None:
        """Let go of connections."""


@dataclass(frozen=True)
class Clocks:
    """Epoch seconds for people, monotonic seconds for spans."""

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


class ProbeRunner:
    """Runs one probe and remembers; `components` may be asked from any thread and never waits."""

    def __init__(self, probe: Probe, clocks: Clocks, limit_seconds: float = PROBE_LIMIT_SECONDS) -> None:
        self._probe, self._clocks, self._limit = probe, clocks, limit_seconds
        # Both are replaced whole, never changed in place: readers in other threads see a consistent picture.
        self._components = tuple(ComponentHealth(reading, clocks.wall()) for reading in probe.expects)
        self._running: tuple[float, float] | None = None

    def run_once(self) -> None:
        """Ask once and remember the answer, whatever it is."""
        began_wall, began = self._clocks.wall(), self._clocks.monotonic()
        self._running = (began_wall, began)
        readings = self._ask()
        latency_ms = round((self._clocks.monotonic() - began) * 1000, 1)
        known = {component.reading.component: component for component in self._components}
        self._components = tuple(
            ComponentHealth(
                reading, _since(known.get(reading.component), reading, began_wall), self._clocks.wall(), latency_ms
            )
            for reading in readings
        )
        self._running = None

    def components(self) -> tuple[ComponentHealth, ...]:
        """Return the newest readings, or "no answer" when the check under way takes too long."""
        components, running = self._components, self._running
        if running is None or self._clocks.monotonic() - running[1] <= self._limit:
            return components
        silent = _unanswered([c.reading for c in components], f"no answer within {self._limit:g} s")
        return tuple(
            replace(component, reading=reading, since=_since(component, reading, running[0]))
            for component, reading in zip(components, silent, strict=True)
        )

    def run_until(self, stop: threading.Event) -> None:
        """Ask again and again until told to stop, then let go of connections."""
        while True:
            self.run_once()
            if stop.wait(self._probe.interval_seconds):
                break
        self._probe.close()

    def _ask(self) -> Sequence[Reading]:
        known = [component.reading for component in self._components]
        try:
            return self._probe.check()
        except ProbeError as error:
            return _unanswered(known, str(error))
        except (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
            # An answer of an unforeseen shape: the thread has to live on, or the component could never recover.
            return _unanswered(known, f"unexpected answer ({type(error).__name__})")


class HealthMonitor:
    """All probes, each in a daemon thread of its own, so that no service can delay news of another."""

    def __init__(self, probes: Sequence[Probe], clocks: Clocks, limit_seconds: float = PROBE_LIMIT_SECONDS) -> None:
        self._runners = tuple(ProbeRunner(probe, clocks, limit_seconds) for probe in probes)
        self._stop = threading.Event()

    def start(self) -> None:
        """Begin probing."""
        for runner in self._runners:
            threading.Thread(target=runner.run_until, args=(self._stop,), daemon=True).start()

    def stop(self) -> None:
        """Stop probing; does not wait, as a probe may hang for as long as its service does."""
        self._stop.set()

    def components(self) -> dict[str, ComponentHealth]:
        """Return the newest readings by component, in the order of the probes."""
        return {c.reading.component: c for runner in self._runners for c in runner.components()}


def judge(components: Sequence[ComponentHealth]) -> HealthStatus:
    """Judge the whole by its parts (rules.py); never unknown."""
    readings = [component.reading for component in components]
    broken = (HealthStatus.UNHEALTHY, HealthStatus.UNKNOWN)
    if any(reading.critical and reading.status in broken for reading in readings):
        return HealthStatus.UNHEALTHY
    if any(reading.status is not HealthStatus.HEALTHY for reading in readings):
        return HealthStatus.DEGRADED
    return HealthStatus.HEALTHY


def _since(before: ComponentHealth | None, reading: Reading, now: float) -> float:
    return before.since if before is not None and before.reading.status is reading.status else now


def _unanswered(readings: Sequence[Reading], reason: str) -> list[Reading]:
    """Make the service itself unhealthy, and unknown what only it could have told."""
    first, *others = readings
    unknown = f"{first.component} does not answer, so nobody can say"
    return [
        replace(first, status=HealthStatus.UNHEALTHY, reason=reason, details={}, measured=()),
        *(replace(other, status=HealthStatus.UNKNOWN, reason=unknown, details={}, measured=()) for other in others),
    ]
