"""Breaks a demo on purpose: its services and jobs are killed or paused, one after the other, in an order by chance.

Whatever is killed has to be noticed and started again; whatever is paused goes on by itself, and those who wait for it
have to. The judgement at the end is the same as without.
"""

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

import psutil

from engagement.processes import family

LEAST_SECONDS, MOST_SECONDS = 30.0, 90.0
"""Between the end of one fault and the next."""


@dataclass(frozen=True)
class Fault:
    """Something that may happen to a service or a job."""

    name: str
    """Of the service or job."""
    part: str = ""
    """Kill only one process below it whose command line holds this; "" = its first process."""
    pause_seconds: float = 0.0
    """Stop all its processes for so long; 0 = kill -9."""

    def __str__(self) -> str:
        whom = f"a process {self.part} of {self.name}" if self.part else self.name
        return f"{whom} is paused for {self.pause_seconds:g} s" if self.pause_seconds else f"{whom} is killed"


FAULTS = (
    *map(Fault, ("postgres", "kafka", "connect", "redis", "bigquery", "receiver", "stream", "serve", "generate")),
    Fault("stream", part="java"),
    Fault("stream", part="worker_daemon"),
    Fault("stream", pause_seconds=60.0),
    Fault("kafka", pause_seconds=60.0),
    Fault("connect", pause_seconds=40.0),
    *(Fault(name, pause_seconds=30.0) for name in ("postgres", "redis", "bigquery", "receiver")),
)


class Chaos:
    """Lets one fault after the other happen; `pids` gives the first process of each service and job."""

    def __init__(
        self,
        pids: Callable[[], Mapping[str, int | None]],
        chance: random.Random,
        say: Callable[[str], None],
        pauses: tuple[float, float] = (LEAST_SECONDS, MOST_SECONDS),
    ) -> None:
        self._pids = pids
        self._chance = chance
        self._say = say
        self._pauses = pauses

    def run(self, stop: threading.Event) -> None:
        """Break things until told to stop; nothing is paused any more when it returns."""
        faults = self._faults()
        while not stop.wait(self._chance.uniform(*self._pauses)):
            self.inflict(next(faults), stop)

    def inflict(self, fault: Fault, stop: threading.Event) -> None:
        """Let one fault happen; returns when a pause is over, which `stop` cuts short."""
        found = family(self._pids().get(fault.name))
        if fault.part:
            found = [process for process in found[1:] if fault.part in _command(process)]
            self._chance.shuffle(found)
        if not found:
            return  # it is being started again
        self._say(f"chaos: {fault}")
        if fault.pause_seconds:
            _pause(found, fault.pause_seconds, stop)
        else:
            with suppress(psutil.NoSuchProcess):
                found[0].kill()

    def _faults(self) -> Iterator[Fault]:
        """All of them in some order, then all in another, without end."""
        # By chance of its own: whom a fault hits takes as many numbers as there are processes just then.
        order = random.Random(self._chance.random())  # noqa: S311
        while True:
            yield from order.sample(FAULTS, len(FAULTS))


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def _pause(processes: list[psutil.Process], seconds: float, stop: threading.Event) -> None:
    try:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        stop.wait(seconds)
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()
