"""What every benchmark is given, and what it gives back."""

import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from engagement.demo.children import Child
from engagement.settings import Settings


@dataclass(frozen=True)
class MeasuredReport(ABC):
    """What was measured."""

    @abstractmethod
    def summary(self) -> str:
        """The outcome in a few lines for a person."""

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")


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
