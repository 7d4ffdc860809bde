"""Two ways of running, taken in turns within one run: what a busy machine does to one of them it does to the other."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from engagement.benchmark.bench import Bench
from engagement.benchmark.pace import Pace
from engagement.demo.probe import Freshness, FreshnessProbe

SETTLE_SECONDS = 2.0
"""After a change of arms, before samples count: what the other arm began is still being done."""


@dataclass(frozen=True)
class Arm:
    """One of the two; `on` is entered for each of its turns."""

    name: str
    on: Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class Turns:
    """How long each turn takes, and how often both have one."""

    seconds: float
    rounds: int


def take_turns(
    probing: Callable[[], AbstractContextManager[FreshnessProbe]],
    arms: Sequence[Arm],
    turns: Turns,
    bench: Bench,
    pace: Pace,
) -> dict[str, Freshness | None]:
    """Commit -> visible of each arm, over all its turns; the first arm of a round is the last of the next one.

    Each turn has a probe of its own, which ends while its arm is on: what it waits for then is that arm's as well.
    """
    samples: dict[str, list[float]] = {arm.name: [] for arm in arms}
    for number in range(turns.rounds):
        for arm in arms if number % 2 == 0 else reversed(arms):
            with arm.on(), probing() as probe:
                bench.stop.wait(SETTLE_SECONDS)
                probe.forget()
                with pace.measured():
                    bench.stop.wait(turns.seconds)
            taken = probe.samples()
            samples[arm.name] += taken
            seen = Freshness.of(taken)
            bench.say(
                f"round {number + 1} of {turns.rounds}, {arm.name}: " + (f"p99 {seen.p99_ms:.0f} ms" if seen else "-")
            )
            if bench.stop.is_set():
                return {}
    return {name: Freshness.of(seconds) for name, seconds in samples.items()}
