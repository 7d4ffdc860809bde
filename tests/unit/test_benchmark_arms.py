"""Two arms in turns: whose samples are whose."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engagement.benchmark.arms import Arm, Turns, take_turns
from engagement.benchmark.bench import Bench
from engagement.benchmark.pace import Pace
from engagement.demo.probe import Freshness
from engagement.settings import SettingsFiles, load_settings


class Hurried(threading.Event):
    """Waits for nothing."""

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002 as the real one
        return self.is_set()


class Probe:
    """One that has seen a sample when it is asked, and another only once it has ended."""

    def __init__(self, on: list[str]) -> None:
        self._on = on
        self._samples = [9.0]

    def forget(self) -> None:
        self._samples = [1.0]

    def samples(self) -> list[float]:
        return self._samples

    def end(self) -> None:
        self._samples.append({"plain": 2.0, "looked at": 4.0}[self._on[-1]])


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    settings = load_settings({}, SettingsFiles(tmp_path))
    return Bench(settings, {}, tmp_path, 1, 1, 60.0, 2, "redis", Hurried(), lambda _: None)


def test_what_a_turn_leaves_on_its_way_is_waited_for_in_that_turn_and_counted_for_its_arm(bench: Bench) -> None:
    on = list[str]()

    @contextmanager
    def arm(name: str) -> Iterator[None]:
        on.append(name)
        yield
        on.append("none")

    @contextmanager
    def probing() -> Iterator[Any]:
        probe = Probe(on)
        yield probe
        probe.end()

    arms = [Arm(name, partial(arm, name)) for name in ("plain", "looked at")]
    found = take_turns(probing, arms, Turns(60.0, 2), bench, Pace(lambda: 0))
    assert found == {"plain": Freshness.of([1, 2, 1, 2]), "looked at": Freshness.of([1, 4, 1, 4])}
    assert on == ["plain", "none", "looked at", "none", "looked at", "none", "plain", "none"]
