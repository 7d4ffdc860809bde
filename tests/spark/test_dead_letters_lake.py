"""The table that Spark's sink writes, read and marked by the command's library, while the sink goes on writing."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from tests.builders import Message, envelope, message, row
from tests.dead_letters import PROJECT
from tests.spark.test_lake_sink import IDENTITY, NOW, CrashError, Lake, die, log_before_which, part

from engagement.dead_letters.letter import Action, LetterId
from engagement.dead_letters.selection import Selection
from engagement.dead_letters.table import LetterTable
from engagement.errors import TransientSinkError

pytestmark = [pytest.mark.spark, pytest.mark.timeout(300)]

MOVED = message(envelope("d", before=row(id=0)), headers=("__debezium.newkey",)).value
ACTION = Action(NOW, "ops@host", "discarded", "noise")


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path) -> Lake:
    return Lake(spark, tmp_path / "a lake")


def bad(offset: int) -> Message:
    return Message(b"\xff", offset=offset)


def test_a_letter_of_the_sink_is_read_marked_and_left_alone_when_its_micro_batch_comes_again(lake: Lake) -> None:
    moved, dying = Message(MOVED, offset=0, headers=("__debezium.newkey",)), lake.driver()
    dying.log = log_before_which(die)
    with pytest.raises(CrashError):
        lake.deliver(dying, [moved, bad(1)])
    table = LetterTable(str(lake.folder), PROJECT / "sql")
    (first, second) = table.messages(table.places(Selection()), Selection())
    assert (first.letter.id, first.letter.code) == (LetterId("engagement-events", 0, 0, "decode"), "E_ID")
    assert (first.value, first.header_names, second.value) == (MOVED, ("__debezium.newkey",), b"\xff")
    assert (first.letter.status, first.letter.history, first.letter.batch_id) == ("new", (), str(IDENTITY))
    assert first.letter.kafka_ts == moved.kafka_ts
    assert table.mark({table.places(Selection())[0]: ACTION}, "discarded", leaving=("new",)) == 1
    lake.deliver(lake.driver(), [moved, bad(1), bad(2)])
    assert [(r.kafka_offset, r.status) for r in lake.letters()] == [(0, "discarded"), (1, "new"), (2, "new")]
    assert [tuple(entry)[1:] for entry in lake.letters()[0].history] == [("ops@host", "discarded", "noise")]


def test_marks_and_micro_batches_race_and_none_is_lost(lake: Lake) -> None:
    sink, marks = lake.driver(), 8
    lake.deliver(sink, [bad(n) for n in range(marks)])

    def mark_one_after_the_other() -> int:
        table = LetterTable(str(lake.folder), PROJECT / "sql")
        return sum(table.mark({place: ACTION}, "discarded", leaving=("new",)) for place in table.places(Selection()))

    with ThreadPoolExecutor(1) as thread:
        marking = thread.submit(mark_one_after_the_other)
        end = marks
        while not marking.done() or end < marks + 2:
            try:
                lake.deliver(sink, [bad(end)], part(end, end + 1))
            except TransientSinkError:
                continue  # the engine repeats the micro-batch too
            end += 1
        assert marking.result() == marks
    assert [r.status for r in lake.letters()] == ["discarded"] * marks + ["new"] * (end - marks)
