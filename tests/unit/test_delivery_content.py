"""Which lengths events are scored with while a sink that keeps sums has not counted again."""

import json
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest

from engagement import schemas
from engagement.delivery.checkpoint import Checkpoint
from engagement.delivery.content import ContentHandle
from engagement.delivery.microbatch import MicroBatchRunner, Patience
from engagement.errors import TransientError
from engagement.identity import OffsetRange
from engagement.sinks.base import PartitionSummary
from engagement.sources.content import ContentCatalogue, ContentSnapshot
from engagement.transform.content import Lengths, SharedContents

COLUMNS = schemas.CONTENT.names


def table(lengths: Lengths) -> pa.Table:
    rows = [{**dict.fromkeys(COLUMNS), "content_id": c, "length_seconds": n} for c, n in lengths.items()]
    kinds = [pa.int32() if name == "length_seconds" else pa.string() for name in COLUMNS]
    return pa.Table.from_pylist(rows, schema=pa.schema(list(zip(COLUMNS, kinds, strict=True))))


class Catalogue(ContentCatalogue):
    """PostgreSQL as a dictionary, and no Spark."""

    def __init__(self, lengths: Lengths) -> None:
        self.lengths = lengths
        self.meanwhile: Callable[[], None] = lambda: None
        self.first: ContentSnapshot | None = None
        """The answer of the next reading, whatever comes meanwhile."""

    def load(self, former: ContentSnapshot | None = None) -> ContentSnapshot:
        answer, self.first = self.first, None
        self.meanwhile()
        if answer is not None:
            return answer
        return former if former and former.lengths == self.lengths else self.snapshot(table(self.lengths))

    def snapshot(self, table: pa.Table) -> ContentSnapshot:
        return ContentSnapshot(table, cast("SharedContents", None))


class Board:
    """A sink that keeps sums of some contents."""

    def __init__(self, counted: Lengths, on_board: set[str]) -> None:
        self.noted, self.on_board, self.recounts = counted, on_board, list[set[str]]()
        self.lock = threading.RLock()
        self.away = False

    def counted_lengths(self) -> Lengths:
        return self.noted

    def withheld(self, contents: frozenset[str]) -> frozenset[str]:
        found = contents & self.on_board
        if found:
            self.recounts.append(set(found))
        return found

    def note_lengths(self, lengths: Lengths) -> None:
        if self.away:
            raise TransientError("Redis does not answer")
        self.noted = dict(lengths)

    def between_batches(self) -> AbstractContextManager[object]:
        return self.lock


def handle(catalogue: Catalogue, board: Board) -> ContentHandle:
    content = ContentHandle(catalogue)
    content.sums = board
    return content


def lengthened() -> tuple[Catalogue, Board, ContentHandle]:
    """A length that changed under the job, and was read once."""
    catalogue, board = Catalogue({"a": 60}), Board({"a": 60}, {"a"})
    content = handle(catalogue, board)
    assert content.current.lengths == {"a": 60}
    catalogue.lengths = {"a": 90}
    content.refresh()
    return catalogue, board, content


def test_a_first_start_on_an_empty_board_takes_the_catalogue_as_it_is() -> None:
    board = Board({}, set())
    assert handle(Catalogue({"a": 60}), board).current.lengths == {"a": 60}
    assert (board.noted, board.recounts) == ({"a": 60}, [])


def test_a_length_that_changed_while_no_job_ran_is_withheld_until_the_board_is_counted_again() -> None:
    board = Board({"a": 60, "b": 10, "gone": 5}, {"a", "gone"})
    content = handle(Catalogue({"a": 90, "b": 20}), board)
    assert content.current.lengths == {"a": 60, "b": 20, "gone": 5}
    assert board.recounts == [{"a", "gone"}]
    assert board.noted == {"a": 60, "b": 20, "gone": 5}, "what the board holds is still the old length"
    content.adopt(content.newest)
    assert content.current.lengths == board.noted == {"a": 90, "b": 20}


def test_a_length_that_changes_under_the_job_is_withheld_too_and_asked_for_until_it_is_adopted() -> None:
    _, board, content = lengthened()
    content.refresh()
    assert content.current.lengths == {"a": 60}
    assert content.newest.lengths == {"a": 90}
    assert board.recounts == [{"a"}, {"a"}]


def test_a_content_that_comes_after_its_events_counts_at_once_and_again() -> None:
    catalogue, board = Catalogue({}), Board({}, {"late"})
    content = handle(catalogue, board)
    assert content.current.lengths == {}
    catalogue.lengths = {"late": 60}
    content.refresh()
    assert content.current.lengths == {"late": 60}
    assert board.recounts == [{"late"}]
    assert "late" not in board.noted, "the board has yet to be counted with it"


def test_a_content_that_comes_after_its_events_is_asked_for_until_it_is_adopted() -> None:
    catalogue, board = Catalogue({}), Board({}, {"late"})
    content = handle(catalogue, board)
    assert content.current.lengths == {}
    catalogue.lengths = {"late": 60}
    content.refresh()
    content.refresh()
    assert board.recounts == [{"late"}, {"late"}]
    after_a_kill = handle(catalogue, board)
    assert after_a_kill.current.lengths == {"late": 60}
    assert board.recounts == [{"late"}, {"late"}, {"late"}]
    after_a_kill.adopt(after_a_kill.newest)
    after_a_kill.refresh()
    assert board.noted == {"late": 60}
    assert len(board.recounts) == 3


def test_a_note_that_the_sink_did_not_take_does_not_bring_former_lengths_back() -> None:
    catalogue, board = Catalogue({"a": 60}), Board({"a": 60}, set())
    content = handle(catalogue, board)
    assert content.current.lengths == {"a": 60}
    catalogue.lengths, board.away = {"a": 90}, True
    with pytest.raises(TransientError):
        content.refresh()
    board.away, board.on_board = False, {"a"}  # its first event comes, and is scored with 90
    catalogue.lengths = {"a": 90, "b": 10}
    content.refresh()
    assert content.current.lengths == board.noted == {"a": 90, "b": 10}
    assert board.recounts == []


def test_an_unchanged_catalogue_keeps_its_snapshot() -> None:
    content = handle(Catalogue({"a": 60}), Board({}, set()))
    before = content.current
    content.refresh()
    assert content.current is before


def test_a_sink_without_sums_scores_with_the_newest_length_at_once() -> None:
    catalogue = Catalogue({"a": 60})
    content = ContentHandle(catalogue)
    assert content.current.lengths == {"a": 60}
    catalogue.lengths = {"a": 90}
    content.refresh()
    assert content.current.lengths == {"a": 90}


def test_a_recount_that_ends_while_the_catalogue_is_read_is_not_taken_back() -> None:
    catalogue, board, content = lengthened()
    catalogue.meanwhile = lambda: content.adopt(content.newest)
    content.refresh()
    assert content.current.lengths == board.noted == {"a": 90}
    assert board.recounts == [{"a"}], "one recount was enough"


def test_a_reading_that_began_earlier_does_not_bring_back_what_was_before() -> None:
    """One thread has its answer and waits; a micro-batch meets a new content meanwhile, and reads it."""
    catalogue, board = Catalogue({"a": 60}), Board({"a": 60}, {"a", "b"})
    content = handle(catalogue, board)
    assert content.current.lengths == {"a": 60}
    answer = catalogue.load(content.newest)

    def meanwhile() -> None:
        catalogue.meanwhile = lambda: None
        catalogue.lengths = {"a": 60, "b": 30}
        board.on_board.discard("b")  # new: nothing of it has been counted
        content.refresh()
        board.on_board.add("b")

    catalogue.meanwhile = meanwhile
    catalogue.first = answer
    content.refresh()
    assert content.current.lengths == content.newest.lengths == {"a": 60, "b": 30}
    assert board.recounts == []


class Batches:
    """Reader, sink and observer of a query, scoring rows with lengths instead of Spark; a recount comes in between."""

    name, content_first, backfill_mends = "fake", False, True

    def __init__(self, content: ContentHandle) -> None:
        self.content = content
        self.recount = threading.Thread(target=self._recount)
        self.scored: Lengths = {}

    def _recount(self) -> None:
        with self.content.sums.between_batches():
            self.content.adopt(self.content.newest)

    def fence(self) -> dict[int, int]:
        return {0: 0}

    def steady(self) -> AbstractContextManager[object]:
        return self.content.sums.between_batches()

    def changes(self, _messages: object, _ranges: object) -> Lengths:
        scored = self.content.current.lengths
        self.recount.start()
        self.recount.join(0.3)  # time enough for a recount that nobody holds off
        return scored

    def deliver(self, changes: Lengths, _ranges: object, _identity: object, *, final: bool) -> list[PartitionSummary]:
        assert not final
        assert changes == self.content.current.lengths, "rows with former lengths came to a board with new ones"
        self.scored = changes
        return [PartitionSummary(0, 0, 1, 1, 1, already_delivered=0)]

    def delivered(self, _identity: object, _summaries: Sequence[PartitionSummary], _seconds: float) -> None: ...


def test_lengths_never_change_between_scoring_and_writing(tmp_path: Path) -> None:
    _, _, content = lengthened()
    for name, text in (
        ("metadata", '{"id": "g"}'),
        ("offsets/0", f"v1\n{{}}\n{json.dumps({'t': {'0': 1}})}"),
        ("sources/0/0", f"v1\n{json.dumps({'t': {'0': 0}})}"),
    ):
        file = tmp_path / "fake" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    parts: Any = Batches(content)
    patience = Patience((), lambda _: None, lambda: False, lambda: 0.0)
    messages: Any = [OffsetRange("t", 0, 0, 1)]
    MicroBatchRunner(parts, Checkpoint(tmp_path, "fake"), parts, parts, patience, "app")(messages, 0)
    parts.recount.join(5)
    assert parts.scored == {"a": 60}
    assert content.current.lengths == {"a": 90}
