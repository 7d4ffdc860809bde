"""A process that runs one command after the other, each whole, from its settings to its exit code, in one warm JVM.

A cold JVM takes ten seconds of two cores for what a warm one does in one. How processes start, die and are killed is
asked elsewhere; here it is what they do. Run as a module, it is that process: it takes orders from a folder.
"""

import importlib
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tests.e2e.support.processes import POLL_SECONDS, JobProcess, await_that
from tests.e2e.support.world import STOP_SECONDS, StreamJob, World


class _Orders:
    """What the process is to run, and how each ended: a file each, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._given = 0

    def give(self, name: str, arguments: tuple[str, ...], environment: Mapping[str, str]) -> None:
        self._given += 1
        _write(self._folder / f"{self._given}.order", [name, arguments, dict(environment)])

    def await_end(self, job: JobProcess, limit_seconds: float) -> int:
        """Wait until what was ordered last has ended in the process; its exit code."""
        done = self._folder / f"{self._given}.code"

        def has_ended() -> bool:
            assert job.is_alive, f"the process has ended with the command\n{job.tail()}"
            return done.exists()

        await_that(has_ended, limit_seconds, lambda: f"the command runs on\n{job.tail()}")
        return int(json.loads(done.read_text()))


class WarmJob(JobProcess):
    """Runs `backfill`, `reconcile` and the like."""

    module = "tests.e2e.support.warm"

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        folder.mkdir()
        super().__init__("warm", (str(folder),), environment, folder / "warm.log")
        self._orders = _Orders(folder)

    def run(self, limit_seconds: float, environment: Mapping[str, str], name: str, *arguments: str) -> tuple[int, str]:
        """Run a command to its end; return its exit code and what it said."""
        said = len(self.text())
        self._orders.give(name, arguments, environment)
        return self._orders.await_end(self, limit_seconds), self.text()[said:]


class PausableJob(StreamJob):
    """`stream` over the checkpoints of the world's own, in its place."""

    module = "tests.e2e.support.warm"

    def __init__(self, world: World, folder: Path) -> None:
        folder.mkdir()
        environment, client = world.job_environment(), world.redis
        super().__init__(environment, client, world.home / "logs" / "pausable.log", world.job.sinks)
        self._arguments, self._command = self._command[3:], (*self._command[:3], str(folder))
        self._orders = _Orders(folder)

    def start(self) -> None:
        """Start the process, and the command in it."""
        super().start()
        self._orders.give("stream", self._arguments, self._environment)

    def pause(self) -> None:
        """End the command as SIGTERM does; its process waits for the next order."""
        self.interrupt()
        assert self._orders.await_end(self, STOP_SECONDS) == 0, self.tail()

    def resume(self) -> None:
        """Run it again and wait until all its queries do."""
        self.await_running(lambda: self._orders.give("stream", self._arguments, self._environment))


def main(folder: Path) -> None:
    """Run what is ordered, for ever."""
    from engagement.command import main as run  # noqa: PLC0415 - who gives the orders needs none of it

    number = 1
    while True:
        order = folder / f"{number}.order"
        while not order.exists():
            time.sleep(POLL_SECONDS)
        name, arguments, environment = json.loads(order.read_text())
        code = run(importlib.import_module(f"jobs.{name}").COMMAND, arguments, environment)
        _write(folder / f"{number}.code", code)
        number += 1


def _write(path: Path, content: object) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(content))
    draft.rename(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
