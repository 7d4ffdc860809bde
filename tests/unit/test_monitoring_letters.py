"""The gauges of stored dead letters, from a real table."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.dead_letters import FIRST, PROJECT, Stored, store

from engagement.dead_letters.letter import Action
from engagement.dead_letters.selection import Selection
from engagement.dead_letters.table import LetterTable
from engagement.errors import TransientError
from engagement.monitoring.letter_gauges import LetterGauges
from engagement.monitoring.measures import Measures

ACTION = Action(datetime(2026, 11, 24, tzinfo=UTC), "me", "discarded", "")


def shown(measures: Measures) -> dict[tuple[str, ...], float]:
    """Short name and label values -> value."""
    return {
        (one.metric.removeprefix("engagement_"), *(one.labels[name] for name in sorted(one.labels))): one.value
        for one in measures.snapshot().values
    }


def test_letters_are_counted_by_code_sink_and_status_and_the_oldest_new_one_is_dated(tmp_path: Path) -> None:
    table = store(tmp_path, [Stored(b"", 1), Stored(b"", 2), Stored(b"", 3, "E_HTTP_REJECT", "external")])
    measures = Measures("serve")
    gauges = LetterGauges(table, measures)
    gauges.look()
    assert shown(measures) == {
        ("stored_dead_letter_rows", "E_JSON", "transform", "new"): 2,
        ("stored_dead_letter_rows", "E_HTTP_REJECT", "external", "new"): 1,
        ("oldest_dead_letter_timestamp_seconds", "E_JSON", "transform"): FIRST.timestamp() + 60,
        ("oldest_dead_letter_timestamp_seconds", "E_HTTP_REJECT", "external"): FIRST.timestamp() + 180,
    }
    table.mark(dict.fromkeys(table.places(Selection(codes=("E_JSON",))), ACTION), "discarded", leaving=("new",))
    gauges.look()
    assert shown(measures) == {
        ("stored_dead_letter_rows", "E_JSON", "transform", "discarded"): 2,
        ("stored_dead_letter_rows", "E_HTTP_REJECT", "external", "new"): 1,
        ("oldest_dead_letter_timestamp_seconds", "E_HTTP_REJECT", "external"): FIRST.timestamp() + 180,
    }


def test_a_table_that_has_not_changed_is_not_counted_again(tmp_path: Path) -> None:
    table = store(tmp_path, [Stored(b"", 1)])
    measures = Measures("serve")
    gauges = LetterGauges(table, measures)
    gauges.look()
    for file in (tmp_path / "dead_letters").rglob("*.parquet"):
        file.unlink()
    gauges.look()
    assert len(shown(measures)) == 2
    with pytest.raises(TransientError):
        LetterGauges(table, measures).look()


def test_before_the_first_letter_nothing_is_shown(tmp_path: Path) -> None:
    measures = Measures("serve")
    LetterGauges(LetterTable(str(tmp_path), PROJECT / "sql"), measures).look()
    assert shown(measures) == {}
