"""Slow sinks take turns, and none of them waits for a slow one for long."""

import threading
import time

import pytest

from engagement.delivery.turns import Turns

PATIENCE_SECONDS = 0.2


def test_one_works_at_a_time() -> None:
    turns, working, most = Turns(5.0), list[int](), list[int]()

    def work(number: int) -> None:
        with turns.taken():
            working.append(number)
            most.append(len(working))
            time.sleep(0.01)
            working.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert most == [1] * 6


def test_whoever_came_first_is_first_however_busy_the_others_are() -> None:
    """Two whose next micro-batch is always due would pass a plain lock to and fro, past a third."""
    turns, worked, came = Turns(30.0), list[str](), threading.Event()

    def busy(name: str) -> None:
        while "third" not in worked and len(worked) < 1000:
            with turns.taken():
                worked.append(name)
                came.wait(0.002)

    others = [threading.Thread(target=busy, args=(name,)) for name in ("first", "second")]
    for other in others:
        other.start()
    while len(worked) < 10:
        came.wait(0.001)
    before = len(worked)
    with turns.taken():
        worked.append("third")
        after = len(worked) - before
    for other in others:
        other.join(10)
    assert after <= 4, f"{after} turns were taken meanwhile"


def test_whoever_takes_long_is_worked_beside_and_keeps_the_turn() -> None:
    turns = Turns(PATIENCE_SECONDS)
    with turns.taken():
        began = time.monotonic()
        others = [threading.Thread(target=lambda: turns.taken().__enter__()) for _ in range(2)]
        for other in others:
            other.start()
        for other in others:
            other.join(10)
            assert not other.is_alive()
        assert time.monotonic() - began >= PATIENCE_SECONDS
    began = time.monotonic()
    with turns.taken():
        assert time.monotonic() - began < PATIENCE_SECONDS, "given back once, by the one that had it"


def test_a_failure_gives_the_turn_back() -> None:
    turns = Turns(30.0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), turns.taken():
            _ = 1 / 0
