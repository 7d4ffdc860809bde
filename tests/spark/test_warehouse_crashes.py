"""The warehouse on the real emulator: driver or emulator dies at any step, answers are lost, others write too."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import pytest
from tests.builders import Message, created
from tests.spark.warehouse import NOW, CrashError, Faulty, Warehouse, Watched, inserted, part

from engagement.errors import TransientSinkError

pytestmark = [pytest.mark.spark, pytest.mark.timeout(120)]


def crash() -> None:
    raise CrashError


STEPS = [
    ("claim", True, 2),
    ("claim", False, 4),
    ("commit", False, 4),
    ("finish", False, 4),
]
"""Step, whether the crash is before it, and the fence that the next driver finds."""


@pytest.mark.parametrize(("step", "before", "then"), STEPS)
def test_after_a_crash_at_any_step_each_row_is_there_once(
    warehouse: Warehouse, step: str, before: bool, then: int
) -> None:
    warehouse.deliver(warehouse.driver(), inserted(2))
    dying = warehouse.driver(ledger=Faulty(step, crash, before=before))
    with pytest.raises(CrashError):
        warehouse.deliver(dying, inserted(4), part(0, 4))
    next_driver = warehouse.driver()
    assert next_driver.fence() == {0: then}
    warehouse.deliver(next_driver, inserted(5), part(0, 5))
    assert (warehouse.ids(), next_driver.fence()) == ([1, 2, 3, 4, 5], {0: 5})


@pytest.mark.parametrize(
    ("step", "before", "then"), [("claim", True, 2), ("claim", False, 2), ("commit", False, 4), ("finish", False, 4)]
)
def test_a_warehouse_killed_at_any_step_holds_each_row_once(
    warehouse: Warehouse, step: str, before: bool, then: int
) -> None:
    """Its streams are gone then: a claim whose commit never came is undone."""
    warehouse.deliver(warehouse.driver(), inserted(2))

    def kill() -> None:
        warehouse.kill_and_restart()
        crash()

    dying = warehouse.driver(ledger=Faulty(step, kill, before=before))
    with pytest.raises(CrashError):
        warehouse.deliver(dying, inserted(4), part(0, 4))
    next_driver = warehouse.driver()
    assert next_driver.fence() == {0: then}
    warehouse.deliver(next_driver, inserted(5), part(0, 5))
    assert (warehouse.ids(), next_driver.fence()) == ([1, 2, 3, 4, 5], {0: 5})


@pytest.mark.parametrize(("answer", "step"), [(1, "created"), (2, "appended")], ids=["created", "appended"])
def test_a_warehouse_killed_while_a_task_writes_shows_none_of_it_and_holds_each_row_once(
    warehouse: Warehouse, answer: int, step: str
) -> None:
    """The stream is gone with it, and the task learns so: from the rows that it sends next, or when it closes it."""
    warehouse.deliver(warehouse.driver(), inserted(2))
    killed: list[str] = []

    def kill() -> None:
        warehouse.kill_and_restart()
        killed.append(step)

    with Watched(warehouse.options.emulator_grpc, answer, kill) as way:
        writing = warehouse.driver(options=replace(warehouse.options, emulator_grpc=way.address))
        with pytest.raises(TransientSinkError, match="NOT_FOUND"):
            warehouse.deliver(writing, inserted(4), part(0, 4))
        assert (killed, warehouse.ids(), writing.fence()) == ([step], [1, 2], {0: 2})
        warehouse.deliver(writing, inserted(5), part(0, 5))
    assert (warehouse.ids(), warehouse.driver().fence()) == ([1, 2, 3, 4, 5], {0: 5})


@pytest.mark.parametrize("step", ["claim", "commit", "finish"])
def test_the_same_driver_goes_on_after_an_answer_was_lost(warehouse: Warehouse, step: str) -> None:
    lost = iter([True])

    def lose() -> None:
        if next(lost, False):
            raise TransientSinkError("warehouse", "lost answer")

    sink = warehouse.driver(ledger=Faulty(step, lose))
    with pytest.raises(TransientSinkError, match="lost answer"):
        warehouse.deliver(sink, inserted(3), part(0, 3))
    assert sink.fence() == {0: 3}
    (summary,) = warehouse.deliver(sink, inserted(4), part(0, 4))
    assert (summary.already_delivered, summary.delivered, warehouse.ids()) == (3, 1, [1, 2, 3, 4])


def overtaking(act: Callable[[], None]) -> Callable[[], datetime]:
    """A clock that does something the first time it is asked: a driver asks it before its tasks write."""
    turns = iter([act])

    def clock() -> datetime:
        for turn in turns:
            turn()
            break
        return NOW

    return clock


def test_of_two_drivers_that_write_the_same_rows_at_once_one_is_refused_and_goes_on_from_the_other(
    warehouse: Warehouse,
) -> None:
    first = warehouse.driver()
    second = warehouse.driver(overtaking(lambda: warehouse.deliver(first, inserted(3), part(0, 3)) and None))
    with pytest.raises(TransientSinkError, match="another driver"):
        warehouse.deliver(second, inserted(5), part(0, 5))
    assert warehouse.ids() == [1, 2, 3]
    (summary,) = warehouse.deliver(second, inserted(5), part(0, 5))
    assert (summary.already_delivered, summary.delivered) == (3, 2)
    assert warehouse.ids() == [1, 2, 3, 4, 5]


def test_a_driver_that_finds_another_s_open_claim_brings_its_rows_and_the_other_notices(warehouse: Warehouse) -> None:
    other = warehouse.driver()
    slow = warehouse.driver(ledger=Faulty("claim", lambda: other.fence() and None))
    with pytest.raises(TransientSinkError, match="not confirmed"):
        warehouse.deliver(slow, inserted(3), part(0, 3))
    assert (slow.fence(), warehouse.ids()) == ({0: 3}, [1, 2, 3])


def test_a_claim_is_not_mistaken_for_rows_of_an_older_topic_at_the_same_offsets(warehouse: Warehouse) -> None:
    warehouse.deliver(warehouse.driver(), inserted(2))
    warehouse.topic_id = "second"
    later = NOW.replace(minute=1)
    others = [Message(created(id=n + 11).value, offset=n) for n in range(2)]

    def kill() -> None:
        warehouse.kill_and_restart()
        crash()

    dying = warehouse.driver(lambda: later, Faulty("claim", kill))
    with pytest.raises(CrashError):
        warehouse.deliver(dying, others)
    assert warehouse.driver().fence() == {}
    warehouse.deliver(warehouse.driver(lambda: later), others)
    assert sorted(warehouse.ids()) == [1, 2, 11, 12]
