"""What tests ask of the streaming job: whether its queries run, how far they are, and that it ends."""

import json
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from redis import Redis
from tests.e2e.support import checkpoints
from tests.e2e.support.processes import JobProcess, await_that

START_SECONDS = 180.0
STOP_SECONDS = 40.0
BATCHES_SECONDS = 60.0
STATUS_KEY = "engagement:status"


class Stream:
    """`stream` with its own checkpoint; known through Redis to run, whatever process it runs in."""

    def __init__(
        self, process: JobProcess, environment: Mapping[str, str], client: Redis, sinks: Sequence[str]
    ) -> None:
        self.process = process
        self.sinks = sinks
        self._client = client
        self._checkpoints = Path(environment["CHECKPOINT_PATH"])

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self.process.is_alive

    def start(self) -> None:
        """Start it; returns at once."""
        self.process.start()

    def stop(self) -> int:
        """SIGTERM, as a service manager does; returns the exit code."""
        self.process.interrupt(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """SIGKILL to all of it at once, as when the machine loses power."""
        self.process.kill()

    def checkpoint(self, sink: str) -> Path:
        """The checkpoint of one sink's query."""
        return self._checkpoints / sink

    def status(self, sink: str = "redis") -> dict[str, object]:
        """What a query says about itself; empty when nothing is known."""
        text = self._client.hget(STATUS_KEY, sink)
        return dict(json.loads(str(text))) if text else {}

    def start_and_wait(self) -> float:
        """Start it and wait until all its queries run; returns the seconds that took."""
        before = {sink: self.status(sink).get("started_at") for sink in self.sinks}
        self.start()

        def runs(sink: str) -> bool:
            assert self.is_alive, f"the streaming job ended while starting:\n{self.tail()}"
            status = self.status(sink)
            return status.get("state") == "running" and status.get("started_at") != before[sink]

        return await_that(
            lambda: all(runs(sink) for sink in self.sinks),
            START_SECONDS,
            lambda: f"not every query runs: {[self.status(sink) for sink in self.sinks]}\n{self.tail()}",
        )

    def commits(self, sink: str = "redis") -> int:
        """Id of a query's newest finished micro-batch, -1 without any."""
        return (checkpoints.numbers(self.checkpoint(sink) / "commits") or [-1])[-1]

    def await_batches(self, count: int, sink: str = "redis", limit_seconds: float = BATCHES_SECONDS) -> None:
        """Wait until a query has finished so many more micro-batches."""
        target = self.commits(sink) + count
        self._await(lambda: self.commits(sink) >= target, limit_seconds, lambda: sink)

    def await_batches_of_all(self, count: int, limit_seconds: float = BATCHES_SECONDS) -> None:
        """Wait until each query has finished so many more micro-batches."""
        targets = {sink: self.commits(sink) + count for sink in self.sinks}

        def behind() -> list[str]:
            return [sink for sink, target in targets.items() if self.commits(sink) < target]

        self._await(lambda: not behind(), limit_seconds, lambda: ", ".join(behind()))

    def tail(self) -> str:
        """The newest lines of its log."""
        return self.process.tail()

    def text(self) -> str:
        """All it has written."""
        return self.process.text()

    def _await(self, condition: Callable[[], bool], limit_seconds: float, sinks: Callable[[], str]) -> None:
        await_that(condition, limit_seconds, lambda: f"no new micro-batch of {sinks()}\n{self.tail()}")


class StreamJob(Stream):
    """In a process of its own, as people start it."""

    def __init__(
        self, environment: Mapping[str, str], client: Redis, log: Path, sinks: Sequence[str] = ("redis",)
    ) -> None:
        process = JobProcess("stream", ("--sinks", ",".join(sinks)), environment, log)
        super().__init__(process, environment, client, sinks)
