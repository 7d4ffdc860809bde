"""What every benchmark is given, and what it gives back."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from engagement.demo.children import Child
from engagement.settings import Settings


class MeasuredReport(Protocol):
    """What was measured."""

    def summary(self) -> str:
        """The outcome in a few lines for a person."""
        ...

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        ...


@dataclass(frozen=True)
class Bench:
    """A running stack of the benchmark's own, and what the person asked for."""

    settings: Settings
    environment: Mapping[str, str]
    """What jobs are started with."""
    home: Path
    rows: int
    rate: int
    seconds: float
    rounds: int
    sink: str
    stop: threading.Event
    say: Callable[[str], None]

    def job(self, name: str, *arguments: str, **changes: str) -> Child:
        """A job as a process of its own, not started yet; `changes` to its environment."""
        return Child(name, arguments, self.home, {**self.environment, **changes})
