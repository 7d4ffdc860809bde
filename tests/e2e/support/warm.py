"""A process that runs one command after the other, each whole, from its settings to its exit code, in one warm JVM.

A cold JVM takes ten seconds of two cores for what a warm one does in one. How a job's own process starts, is killed and
ends is asked of StreamJob; here it is what a run makes of what the former one has left. Run as a module, it is that
process: it takes orders from a folder.
"""

import importlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from redis import Redis
from tests.e2e.support.processes import POLL_SECONDS, JobProcess, await_that
from tests.e2e.support.streams import STOP_SECONDS, Stream

_STREAM = "stream"
_ORDER = "order"


class WarmProcess(JobProcess):
    """Runs one order at a time; the first one starts it, also after it was killed."""

    module = "tests.e2e.support.warm"

    def __init__(self, environment: Mapping[str, str], folder: Path, log: Path) -> None:
        super().__init__("", (str(folder),), environment, log)
        self._folder = folder
        self._given = 0

    def give(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Path:
        """Have a command run; returns the file that will hold its exit code."""
        self._folder.mkdir(exist_ok=True)
        if not self.is_alive:
            (self._folder / _ORDER).unlink(missing_ok=True)  # which its former life did not take
            self.start()
        self._given += 1
        _write(self._folder / _ORDER, [self._given, name, list(arguments), dict(environment)])
        return self._folder / f"{self._given}.code"

    def await_end(self, code: Path, limit_seconds: float) -> int:
        """Wait until the command ends that is to leave its exit code there."""

        def has_ended() -> bool:
            assert code.exists() or self.is_alive, f"the process has ended with the command\n{self.tail()}"
            return code.exists()

        await_that(has_ended, limit_seconds, lambda: f"the command runs on\n{self.tail()}")
        return int(json.loads(code.read_text()))

    def run(self, limit_seconds: float, environment: Mapping[str, str], name: str, *arguments: str) -> tuple[int, str]:
        """Run a command to its end; return its exit code and what it said."""
        said = len(self.text())
        code = self.await_end(self.give(name, arguments, environment), limit_seconds)
        return code, self.text()[said:]


class PausableStream(Stream):
    """An order for a warm process, which waits for the next one once SIGTERM has ended it, and dies if killed."""

    process: WarmProcess

    def __init__(
        self, process: WarmProcess, environment: Mapping[str, str], client: Redis, sinks: Sequence[str]
    ) -> None:
        super().__init__(process, environment, client, sinks)
        self._environment = environment
        self._code: Path | None = None
        self.options: Sequence[str] = ()
        """More options of the command."""

    @property
    def is_alive(self) -> bool:
        """Whether the order is being carried out."""
        return self._code is not None and self.process.is_alive and not self._code.exists()

    def start(self) -> None:
        """Give the order; returns at once."""
        assert not self.is_alive, "it runs already"
        self._code = self.process.give(_STREAM, ("--sinks", ",".join(self.sinks), *self.options), self._environment)

    def stop(self) -> int:
        """SIGTERM; returns the command's exit code."""
        assert self._code is not None, "not started"
        self.process.interrupt()
        return self.process.await_end(self._code, STOP_SECONDS)

    def release(self) -> None:
        """Let the process wait for another order, or kill it where the command does not end."""
        try:
            if self.is_alive:
                self.stop()
        except AssertionError:
            self.kill()


def main(folder: Path) -> None:
    """Run what is ordered, until killed; a streaming job that fails ends the process, as it would end its own."""
    from engagement.command import main as run  # noqa: PLC0415 - who gives the orders needs none of it

    while True:
        order = folder / _ORDER
        while not order.exists():
            time.sleep(POLL_SECONDS)
        number, name, arguments, environment = json.loads(order.read_text())
        order.unlink()
        code = run(importlib.import_module(f"jobs.{name}").COMMAND, arguments, environment)
        _write(folder / f"{number}.code", code)
        if name == _STREAM and code:
            sys.exit(code)


def _write(path: Path, content: object) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(content))
    draft.rename(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
