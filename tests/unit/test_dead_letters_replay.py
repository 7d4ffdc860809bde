"""The life of a dead letter on a real Delta table: chosen, judged, sent once whatever crashes, marked, discarded."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.builders import created, envelope, message, row
from tests.dead_letters import FIRST, PROJECT, TOPIC, Stored, store

from engagement.dead_letters.discard import discard
from engagement.dead_letters.letter import Action, LetterId, Place, parse_id
from engagement.dead_letters.replay import Replay, Replayer, Tally, slices
from engagement.dead_letters.selection import TRANSFORM, Selection
from engagement.dead_letters.table import LetterTable
from engagement.errors import ConfigError, TransientError
from engagement.schemas import TABLE_TOPIC

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
NEW = Selection(statuses=("new",))
GOOD = created().value or b""
OTHER = created(id=2).value or b""
BAD = b"not JSON"
ACTION = Action(NOW, "me", "discarded", "noise")


class CrashError(Exception):
    """kill -9."""


class MemoryDestination:
    """Takes letters once, as Kafka's topic does, and dies where it is told to."""

    def __init__(self, unmarked_letters: int = 20_000) -> None:
        self.unmarked_letters = unmarked_letters
        self.places: list[Place] = []
        self.values: list[bytes] = []
        self.dies: str = ""

    def takes(self, letter: LetterId) -> bool:
        return letter.topic == TOPIC

    @property
    def taken(self) -> list[LetterId]:
        return [place.id for place in self.places]

    def sent_before(self, places: Sequence[Place]) -> Mapping[Place, str]:
        return {place: "sent by a run that ended before it could note so" for place in places if place in self.places}

    def send(self, replays: Sequence[Replay]) -> Iterator[tuple[Place, str]]:
        if self.dies == "before the effect":
            raise CrashError
        self.places += [replay.place for replay in replays]
        self.values += [replay.value for replay in replays]
        if self.dies == "after the effect":
            raise CrashError
        for replay in replays:
            yield replay.place, f"sent as {replay.id.partition}:{100 + replay.id.offset}"


def replayer(table: LetterTable, destination: MemoryDestination, sink: str = TRANSFORM) -> Replayer:
    return Replayer(table, {sink: destination}, "ops@host", lambda: NOW, lambda _tally: None)


def statuses(table: LetterTable) -> dict[int, str]:
    return {letter.id.offset: letter.status for letter in table.newest(Selection(), 1_000)}


def test_what_passes_now_is_sent_and_marked_and_the_rest_stays(tmp_path: Path) -> None:
    table = store(tmp_path, [Stored(GOOD, 1), Stored(BAD, 2), Stored(GOOD, 3)])
    destination = MemoryDestination()
    tally = replayer(table, destination).run(NEW)
    assert (tally.selected, tally.sent, dict(tally.refused)) == (3, 2, {"E_JSON": 1})
    assert [letter.offset for letter in destination.taken] == [1, 3]
    assert statuses(table) == {1: "replayed", 2: "new", 3: "replayed"}
    (action,) = table.newest(Selection(ids=(LetterId(TOPIC, 0, 1, "decode"),)), 1)[0].history
    assert action == (NOW, "ops@host", "replayed", "sent as 0:101")


def test_a_second_run_sends_nothing(tmp_path: Path) -> None:
    table, destination = store(tmp_path, [Stored(GOOD, n) for n in range(5)]), MemoryDestination()
    replayer(table, destination).run(NEW)
    assert str(replayer(table, destination).run(NEW)) == "0 of 0 sent again"
    assert len(destination.taken) == 5


@pytest.mark.parametrize("later", [timedelta(days=2), timedelta(minutes=1)], ids=["days later", "on the same day"])
def test_a_topic_that_was_made_again_has_other_letters_at_the_same_places(tmp_path: Path, later: timedelta) -> None:
    destination = MemoryDestination()
    replayer(store(tmp_path, [Stored(GOOD, 2)]), destination).run(NEW)
    table = store(tmp_path, [Stored(OTHER, 2, later=later)])
    assert replayer(table, destination).run(NEW).sent == 1
    assert destination.values == [GOOD, OTHER]
    assert [len(letter.history) for letter in table.newest(Selection(), 2)] == [1, 1]


def test_letters_that_share_a_place_are_both_sent_in_one_run(tmp_path: Path) -> None:
    table = store(tmp_path, [Stored(GOOD, 2), Stored(OTHER, 2, later=timedelta(days=2))])
    destination = MemoryDestination()
    assert replayer(table, destination).run(NEW).sent == 2
    assert destination.values == [GOOD, OTHER]
    assert [letter.status for letter in table.newest(Selection(), 2)] == ["replayed"] * 2


@pytest.mark.parametrize("dies", ["before the effect", "after the effect"])
def test_after_a_crash_the_next_run_brings_effect_and_status_together(tmp_path: Path, dies: str) -> None:
    table, destination = store(tmp_path, [Stored(GOOD, n) for n in range(5)]), MemoryDestination()
    destination.dies = dies
    with pytest.raises(CrashError):
        replayer(table, destination).run(NEW)
    assert set(statuses(table).values()) == {"new"}
    destination.dies = ""
    tally = replayer(table, destination).run(NEW)
    assert (tally.sent, tally.sent_before) == ((5, 0) if dies == "before the effect" else (0, 5))
    assert sorted(destination.taken) == [LetterId(TOPIC, 0, n, "decode") for n in range(5)]
    assert set(statuses(table).values()) == {"replayed"}


def test_what_was_sent_is_marked_although_the_run_fails_later(tmp_path: Path) -> None:
    table, destination = store(tmp_path, [Stored(GOOD, n) for n in range(4)]), MemoryDestination(unmarked_letters=2)

    def away_after_the_first_slice(_tally: Tally) -> None:
        raise TransientError("Kafka is away")

    run = Replayer(table, {TRANSFORM: destination}, "me", lambda: NOW, away_after_the_first_slice)
    with pytest.raises(TransientError):
        run.run(NEW)
    assert statuses(table) == {0: "replayed", 1: "replayed", 2: "new", 3: "new"}


def test_of_a_destination_that_cannot_tell_only_so_many_go_out_again_after_a_crash(tmp_path: Path) -> None:
    table, destination = store(tmp_path, [Stored(GOOD, n) for n in range(7)]), MemoryDestination(unmarked_letters=2)

    def crash_late(tally: Tally) -> None:
        destination.dies = "after the effect" if tally.sent == 4 else ""

    with pytest.raises(CrashError):
        Replayer(table, {TRANSFORM: destination}, "me", lambda: NOW, crash_late).run(NEW)
    assert len(destination.taken) == 6
    assert [status for _, status in sorted(statuses(table).items())] == ["replayed"] * 4 + ["new"] * 3


def test_a_corrected_message_takes_the_place_of_the_letters_own(tmp_path: Path) -> None:
    table, destination = store(tmp_path, [Stored(BAD, 1)]), MemoryDestination()
    one = Selection(ids=(parse_id(f"{TOPIC}:0:1:decode"),), statuses=("new",))
    replayer(table, destination).run(one, GOOD)
    assert destination.values == [GOOD]
    (action,) = table.newest(Selection(), 1)[0].history
    assert action.detail.startswith("sent as 0:101, corrected: sha256 ")


def test_a_dry_run_touches_neither_table_nor_destination(tmp_path: Path) -> None:
    table, destination = store(tmp_path, [Stored(GOOD, 1), Stored(BAD, 2)]), MemoryDestination()
    tally = replayer(table, destination).run(NEW, dry_run=True)
    assert (tally.sent, sum(tally.refused.values()), destination.taken) == (1, 1, [])
    assert set(statuses(table).values()) == {"new"}


def test_letters_of_a_sink_go_to_it_alone(tmp_path: Path) -> None:
    letters = [Stored(GOOD, 1), Stored(GOOD, 2, code="E_HTTP_REJECT", sink="external")]
    table, topic, external = store(tmp_path, letters), MemoryDestination(), MemoryDestination()
    destinations = {TRANSFORM: topic, "external": external}
    Replayer(table, destinations, "me", lambda: NOW, lambda _tally: None).run(NEW)
    assert ([letter.offset for letter in topic.taken], [letter.offset for letter in external.taken]) == ([1], [2])


def test_letters_without_a_destination_stop_the_run_before_anything_is_sent(tmp_path: Path) -> None:
    letters = [Stored(GOOD, 1), Stored(GOOD, 2, code="E_HTTP_REJECT", sink="external")]
    table, destination = store(tmp_path, letters), MemoryDestination()
    told = "letters refused by external cannot be sent again: set EXTERNAL_SYSTEM_URL and DATABASE_URL$"
    with pytest.raises(ConfigError, match=told):
        replayer(table, destination).run(NEW)
    assert destination.taken == []


def test_letters_of_rows_that_backfill_has_read_hold_up_no_others(tmp_path: Path) -> None:
    table = store(tmp_path, [Stored(GOOD, 1, topic=TABLE_TOPIC), Stored(GOOD, 2)])
    destination = MemoryDestination()
    tally = replayer(table, destination).run(NEW)
    assert (tally.sent, tally.elsewhere, tally.is_complete) == (1, 1, False)
    assert statuses(table) == {1: "new", 2: "replayed"}


@pytest.mark.parametrize("dry_run", [True, False])
def test_letters_of_the_warehouse_hold_up_no_others_and_say_what_brings_their_rows(
    tmp_path: Path, dry_run: bool
) -> None:
    refused = Stored(GOOD, 1, code="E_WAREHOUSE_REJECT", sink="warehouse")
    table, destination = store(tmp_path, [refused, Stored(GOOD, 2)]), MemoryDestination()
    tally = replayer(table, destination).run(NEW, dry_run=dry_run)
    assert (tally.selected, tally.sent, tally.by_warehouse, tally.is_complete) == (2, 1, 1, False)
    assert "1 were refused by the warehouse and stay (`backfill --sinks warehouse` brings a new row, `reconcile" in str(
        tally
    )
    assert statuses(table) == {1: "new", 2: "new" if dry_run else "replayed"}


def test_a_future_event_passes_once_its_time_has_come(tmp_path: Path) -> None:
    ahead = message(envelope("c", after=row(event_ts=(NOW + timedelta(minutes=6)).isoformat()))).value or b""
    table, destination = store(tmp_path, [Stored(ahead, 1, code="E_TS_FUTURE")]), MemoryDestination()
    assert replayer(table, destination).run(NEW).refused == {"E_TS_FUTURE": 1}
    later = Replayer(table, {TRANSFORM: destination}, "me", lambda: NOW + timedelta(minutes=1), lambda _tally: None)
    assert later.run(NEW).sent == 1


def test_filters_choose_by_code_sink_time_status_and_id(tmp_path: Path) -> None:
    letters = [Stored(GOOD, n, code="E_TS" if n % 2 else "E_ID", sink="external" if n == 4 else None) for n in range(6)]
    table = store(tmp_path, letters)
    table.mark({table.places(Selection())[0]: ACTION}, "discarded", leaving=("new",))

    def chosen(selection: Selection) -> list[int]:
        return [place.id.offset for place in table.places(selection)]

    assert chosen(Selection(codes=("E_TS",))) == [1, 3, 5]
    assert chosen(Selection(sinks=("external",))) == [4]
    assert chosen(Selection(sinks=(TRANSFORM,))) == [0, 1, 2, 3, 5]
    assert chosen(Selection(since=FIRST + timedelta(minutes=2))) == [2, 3, 4, 5]
    assert chosen(Selection(statuses=("discarded",))) == [0]
    two = (LetterId(TOPIC, 0, 1, "decode"), LetterId(TOPIC, 0, 4, "decode"))
    assert chosen(Selection(ids=two, codes=("E_TS",))) == [1]
    assert [letter.id.offset for letter in table.newest(Selection(), 2)] == [5, 4]
    assert {(c.code, c.sink, c.status): c.letters for c in table.counts(Selection())} == {
        ("E_TS", TRANSFORM, "new"): 3, ("E_ID", TRANSFORM, "new"): 1,
        ("E_ID", TRANSFORM, "discarded"): 1, ("E_ID", "external", "new"): 1,
    }  # fmt: skip


def test_a_discarded_letter_is_kept_and_can_be_sent_after_all(tmp_path: Path) -> None:
    table, destination = store(tmp_path, [Stored(GOOD, n) for n in range(3)]), MemoryDestination()
    assert discard(table, NEW, "me", "noise", lambda: NOW, lambda _at, _of: None) == 3
    assert discard(table, NEW, "me", "noise", lambda: NOW, lambda _at, _of: None) == 0
    assert replayer(table, destination).run(NEW).selected == 0
    assert replayer(table, destination).run(Selection(statuses=("discarded",))).sent == 3
    assert [action.action for action in table.newest(Selection(), 1)[0].history] == ["discarded", "replayed"]


def test_what_a_dead_run_has_sent_is_settled_before_it_could_be_discarded(tmp_path: Path) -> None:
    table, destination = store(tmp_path, [Stored(GOOD, 1), Stored(GOOD, 2)]), MemoryDestination()
    destination.places = table.places(Selection(ids=(LetterId(TOPIC, 0, 1, "decode"),)))
    assert replayer(table, destination).settle(NEW) == 1
    discard(table, NEW, "me", "", lambda: NOW, lambda _at, _of: None)
    assert statuses(table) == {1: "replayed", 2: "discarded"}


def test_marks_that_race_for_the_same_files_all_come_through(tmp_path: Path) -> None:
    table = store(tmp_path, [Stored(GOOD, n) for n in range(40)])
    places = table.places(Selection())

    def mark(number: int) -> int:
        own = LetterTable(str(tmp_path), PROJECT / "sql")
        return sum(own.mark({place: ACTION}, "discarded", leaving=("new",)) for place in places[number::4])

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(mark, range(4))) == 40
    assert set(statuses(table).values()) == {"discarded"}
    assert all(len(letter.history) == 1 for letter in table.newest(Selection(), 100))


def test_a_table_whose_files_are_gone_is_a_sentence(tmp_path: Path) -> None:
    table = store(tmp_path, [Stored(GOOD, 1)])
    for file in (tmp_path / "dead_letters").rglob("*.parquet"):
        file.unlink()
    with pytest.raises(TransientError, match="cannot be read or written"):
        table.newest(Selection(), 1)


def test_slices_are_bounded_in_number_and_size() -> None:
    def place(number: int, size: int) -> Place:
        return Place(LetterId(TOPIC, 0, number, "decode"), number, FIRST.date(), None, size)

    mib = 1024 * 1024
    sizes = [part[0].size // mib for part in slices([place(n, 20 * mib) for n in range(3)])]
    assert sizes == [20, 20, 20]
    assert [len(part) for part in slices([place(n, 10) for n in range(4_001)])] == [2_000, 2_000, 1]
    assert list(slices([])) == []
