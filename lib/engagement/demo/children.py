"""The jobs that a demo runs beside the services, as processes of their own: what a person would start by hand."""

import math
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from engagement.command import hold_off_signals
from engagement.embedded.demo_jobs import job_spec
from engagement.embedded.process import Supervised
from engagement.errors import TransientError
from engagement.settings import MonitoringSettings

_START_SECONDS = 10.0
_LEAST_PAUSE_SECONDS, _MOST_PAUSE_SECONDS = 2.0, 60.0
_PROVEN_SECONDS = 2 * _MOST_PAUSE_SECONDS
"""A job found gone so long after its start has the shortest pause again, as if it had never died before.

Whether it ran all the time: what looks after it also waits for services, and nobody notes when a job died.
"""
_NICENESS: Mapping[str, int] = {"serve": 5}
"""Jobs that give way where all share one machine: who looks must not slow down what is looked at."""


class Child:
    """One job, started again when it died without being told to; `monotonic` gives seconds."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        home: Path,
        environment: Mapping[str, str],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._wanted = False
        self._monotonic = monotonic
        self._started, self._pause = -math.inf, _LEAST_PAUSE_SECONDS
        self._spec = job_spec(name, arguments, home, environment, _NICENESS.get(name, 0))
        self._supervised = Supervised(name, self._spec.pid_file)

    @property
    def log(self) -> Path:
        """Where it writes."""
        return self._spec.log

    def start(self) -> None:
        """Start it, after ending whatever an earlier demo left of it; does not wait until it is useful."""
        self._supervised.stop(self._spec)
        self._wanted, self._started = True, self._monotonic()
        self._supervised.start(self._spec, ready=lambda: True, limit_seconds=_START_SECONDS)

    def heal(self) -> bool:
        """Start it again if it is gone without having been stopped; true if it was.

        One that dies again and again is given a longer pause each time: nobody mends it by starting it.
        """
        lived = self._monotonic() - self._started
        if not self._wanted or self.pid is not None or lived < self._pause:
            return False
        again = min(_MOST_PAUSE_SECONDS, 2 * self._pause)
        self._pause = _LEAST_PAUSE_SECONDS if lived > _PROVEN_SECONDS else again
        self.start()
        return True

    @property
    def pid(self) -> int | None:
        """Its process id, None when it does not run."""
        process = self._supervised.process()
        return None if process is None else process.pid

    def stop(self) -> None:
        """Ask it to end and wait; it is not healed any more."""
        self._wanted = False
        self._supervised.stop(self._spec)


@contextmanager
def kept_running(children: Sequence[Child]) -> Iterator[None]:
    """Start the jobs; on leaving, for whatever reason, all of them are stopped, and no signal cuts that short.

    They have sessions of their own, so what this process leaves running runs for ever.
    """
    with ExitStack() as ending:
        ending.callback(_stop_all, children)
        ending.callback(hold_off_signals)
        for child in children:
            child.start()
        yield


def _stop_all(children: Sequence[Child]) -> None:
    with ThreadPoolExecutor(len(children)) as pool:
        list(pool.map(Child.stop, children))


def free_metrics_port(monitoring: MonitoringSettings) -> int:
    """METRICS_PORT, or any free port when somebody else has it."""
    for port in (monitoring.metrics_port, 0):
        family = socket.AF_INET6 if ":" in monitoring.metrics_host else socket.AF_INET
        with closing(socket.socket(family)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((monitoring.metrics_host, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise TransientError(f"no free port on {monitoring.metrics_host} for the monitoring API")


def metrics_url(monitoring: MonitoringSettings, port: int) -> str:
    """Where the API answers that listens on METRICS_HOST and a port."""
    host = monitoring.metrics_host
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def child_environment(own: Mapping[str, str], stack: Mapping[str, str], metrics_port: int) -> dict[str, str]:
    """What the jobs are started with: our variables, the stack's addresses, and where the API listens."""
    return {**own, **stack, "METRICS_PORT": str(metrics_port)}
