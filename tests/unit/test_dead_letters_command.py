"""`dead-letters` as people use it: what it prints, what it asks, what it says about bad usage; no Kafka, no JVM."""

import io
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from jobs.dead_letters import COMMAND
from tests.builders import created, envelope, message, row
from tests.dead_letters import FIRST, PROJECT, TOPIC, Stored, store

from engagement.command import main
from engagement.dead_letters.actions import DeadLetters
from engagement.dead_letters.display import printable, readable
from engagement.dead_letters.letter import LetterId, parse_id
from engagement.dead_letters.progress import Progress
from engagement.dead_letters.selection import Selection, parse_since
from engagement.dead_letters.table import LetterTable
from engagement.dead_letters.topic import ReplayTopic
from engagement.errors import ContractError
from engagement.settings import SettingsFiles

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
GOOD = created().value or b""
ONE = LetterId(TOPIC, 0, 1, "decode")


class Terminal:
    """The commands on a table, and what they wrote."""

    def __init__(self, lake: Path, letters: Sequence[Stored] = ()) -> None:
        table = store(lake, letters) if letters else LetterTable(str(lake), PROJECT / "sql")
        self._out = io.StringIO()
        self.progress: list[str] = []
        self.commands = DeadLetters(table, {}, "ops@host", lambda: NOW, self._out, self.progress.append)

    @property
    def text(self) -> str:
        return self._out.getvalue()


def start(lake: Path, *words: str) -> int:
    files = SettingsFiles(PROJECT)
    return main(COMMAND, words, {"LAKE_PATH": str(lake), "ENGAGEMENT_HOME": str(lake / "home")}, files)


def test_list_counts_by_code_and_shows_the_newest(tmp_path: Path) -> None:
    letters = [Stored(GOOD, n, code="E_TS" if n else "E_UUID") for n in range(1_200)]
    terminal = Terminal(tmp_path, letters)
    assert terminal.commands.list(Selection(), 2, as_json=False) == 0
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in terminal.text.splitlines()]
    assert ["E_TS", "transform", "1,199", "0", "0", "2026-11-24 00:00:00"] in lines
    assert ["E_UUID", "transform", "1", "0", "0", "2026-11-23 23:59:00"] in lines
    ids = [line[0] for line in lines if line and line[0].startswith(TOPIC)]
    assert ids == [f"{TOPIC}:0:1199:decode", f"{TOPIC}:0:1198:decode"]
    assert "2 of 1,200, newest first" in terminal.text


def test_list_for_programs(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, [Stored(GOOD, 1, sink="external", code="E_HTTP_REJECT"), Stored(GOOD, 2)])
    terminal.commands.list(Selection(sinks=("external",)), 20, as_json=True)
    found = json.loads(terminal.text)
    assert found["matching"] == 1
    (letter,) = found["letters"]
    assert (letter["id"], letter["code"], letter["sink"], letter["status"]) == (
        f"{TOPIC}:0:1:decode", "E_HTTP_REJECT", "external", "new",
    )  # fmt: skip
    assert parse_id(letter["id"]) == ONE


def test_without_a_table_nothing_is_wrong(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    assert terminal.commands.list(Selection(), 1, as_json=False) == 0
    assert terminal.commands.replay(Selection(), None, dry_run=False) == 0
    assert terminal.commands.discard(Selection(), "", lambda _question: True) == 0
    assert terminal.text.count("no streaming job has made the table") == 3


def test_show_tells_message_reason_history_and_what_would_happen_now(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, [Stored(GOOD, 1)])
    terminal.commands.discard(Selection(), "noise", lambda _question: True)
    assert terminal.commands.show(ONE, as_json=False, raw=False) == 0
    assert "it would pass" in terminal.text
    assert "2026-11-24 12:00:00  discarded by ops@host  noise" in terminal.text
    assert '"event_type": "play"' in terminal.text


def test_show_for_programs_holds_the_bytes_whatever_they_are(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, [Stored(b"\xff\x00", 1, code="E_UTF8")])
    terminal.commands.show(ONE, as_json=True, raw=False)
    found = json.loads(terminal.text)
    assert (found["text"], bytes.fromhex(found["hex"])) == (None, b"\xff\x00")
    assert found["refused_now"] == {"code": "E_UTF8", "detail": "bytes are no UTF-8"}


def test_show_raw_writes_the_bytes_alone(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    store(tmp_path, [Stored(b"\xff\r\n", 1)])
    assert start(tmp_path, "show", "--raw", str(ONE)) == 0
    sys.stdout.flush()
    assert capfdbinary.readouterr().out == b"\xff\r\n"


def test_an_unknown_letter_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="no dead letter"):
        Terminal(tmp_path, [Stored(GOOD, 2)]).commands.show(ONE, as_json=False, raw=False)


def test_discard_asks_and_takes_no_for_an_answer(tmp_path: Path) -> None:
    terminal, asked = Terminal(tmp_path, [Stored(GOOD, n) for n in range(3)]), list[str]()

    def answer(words: bool) -> Callable[[str], bool]:
        return lambda question: (asked.append(question), words)[1]

    assert terminal.commands.discard(Selection(statuses=("new",)), "", answer(False)) == 1
    assert asked == ["Discard 3 dead letters (E_JSON by transform 3)?"]
    assert terminal.commands.table.counts(Selection(statuses=("discarded",))) == []
    assert terminal.commands.discard(Selection(statuses=("new",)), "", answer(True)) == 0
    assert terminal.text.splitlines()[-1] == "dead-letters: 3 discarded; `show ID` still shows them"


def test_a_dry_run_says_what_would_be_sent_and_needs_no_kafka(tmp_path: Path) -> None:
    letters = [Stored(GOOD, 1), Stored(b"{", 2)]
    terminal = Terminal(tmp_path, letters)
    nowhere = {"transform": ReplayTopic(TOPIC, {}, time.monotonic)}
    terminal.commands = replace(terminal.commands, destinations=nowhere)
    assert terminal.commands.replay(Selection(), None, dry_run=True) == 1
    assert terminal.text == (
        "dead-letters: 1 of 2 would be sent again; 1 would be refused again and stay as they are (E_JSON 1); "
        "this was a dry run\n"
    )


@pytest.mark.parametrize(
    ("words", "problems"),
    [
        (["list", "--code", "X,E_TS", "--since", "soon", "--status", "gone"], ["--code X", "--status gone", "no time"]),
        (["replay", "a:b", "--status", "replayed"], ["--status replayed", "no dead letter's id"]),
        (["replay", "--payload", "/nonexistent"], ["exactly one", "/nonexistent: No such file"]),
        (["discard"], ["discard needs ids, a filter, or --all"]),
        (["discard", "--all"], ["needs --yes"]),
        (["show", "7"], ["no dead letter's id"]),
        ([], ["choose list, show, replay or discard"]),
    ],
)  # fmt: skip
def test_bad_usage_is_2_with_every_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], problems: list[str]
) -> None:
    assert start(tmp_path, *words) == 2
    told = capsys.readouterr().err
    assert all(problem in told for problem in problems), told
    assert "Traceback" not in told


def test_a_correction_stands_for_one_of_the_letters_that_share_a_place(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, [Stored(b"{", 1), Stored(b"[", 1, later=timedelta(days=2))])
    both = Selection(ids=(ONE,), statuses=("new",))
    with pytest.raises(ContractError, match="the newer one is meant alone with --since"):
        terminal.commands.replay(both, GOOD, dry_run=True)
    newer = replace(both, since=FIRST + timedelta(days=1))
    terminal.commands = replace(terminal.commands, destinations={"transform": ReplayTopic(TOPIC, {}, time.monotonic)})
    assert terminal.commands.replay(newer, GOOD, dry_run=True) == 0
    assert terminal.text.startswith("dead-letters: 1 of 1 would be sent again")


def test_the_older_of_two_letters_that_share_a_place_can_be_corrected_once_the_newer_is_discarded(
    tmp_path: Path,
) -> None:
    """What the newer one's headers say of its message says nothing of the older one's."""
    newer = Stored(b"[", 1, header_names=("__debezium.oldkey",), later=timedelta(days=2))
    terminal = Terminal(tmp_path, [Stored(b"{", 1), newer])
    both = Selection(ids=(ONE,), statuses=("new",))
    payload = message(envelope("c", after=row(id=1), before=row(id=2))).value or b""
    alone = replace(both, since=FIRST + timedelta(days=1))
    with pytest.raises(ContractError, match="would be refused too: E_ENVELOPE"):
        terminal.commands.replay(alone, payload, dry_run=True)
    terminal.commands.discard(alone, "noise", lambda _question: True)
    terminal.commands = replace(terminal.commands, destinations={"transform": ReplayTopic(TOPIC, {}, time.monotonic)})
    assert terminal.commands.replay(both, payload, dry_run=True) == 0
    assert "1 of 1 would be sent again" in terminal.text


def test_a_correction_of_a_letter_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="no dead letter"):
        Terminal(tmp_path, [Stored(GOOD, 2)]).commands.replay(Selection(ids=(ONE,)), GOOD, dry_run=True)


def test_a_destination_without_an_address_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(tmp_path, [Stored(GOOD, 1)])
    assert start(tmp_path, "replay") == 2
    assert "letters refused by transform cannot be sent again: set KAFKA_BOOTSTRAP_SERVERS" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "x", "a:1:2", "a:1:2:decode:3", "a b:1:2:decode", "a:-1:2:decode"])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="topic:partition:offset:stage"):
        parse_id(text)


def test_a_letter_moves_no_cursor() -> None:
    assert printable("a\x1b[2J\x9b\r\n") == "a\\x1b[2J\\x9b\\x0d\n"
    assert list(readable(b'{"a":"\\u001b"}')) == ["{", '  "a": "\\u001b"', "}"]
    assert list(readable(b"\xff" * 300))[-1] == "... 44 more bytes; `show --raw` writes all of them"
    assert list(readable(b'"' + b"a" * 5_000))[-1].startswith("... 1,001 more characters")


def test_a_moment_is_an_age_a_day_or_a_time() -> None:
    assert parse_since("2d", NOW) == datetime(2026, 11, 22, 12, tzinfo=UTC)
    assert parse_since("2026-11-01", NOW) == datetime(2026, 11, 1, tzinfo=UTC)
    assert parse_since("2026-11-01T10:00+02:00", NOW) == datetime(2026, 11, 1, 8, tzinfo=UTC)


def test_progress_is_a_line_a_second_at_most(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    progress = Progress(lambda: now)
    for now in (0.2, 1.0, 1.5, 2.5):
        progress.show(f"at {now}")
    assert capsys.readouterr().err == "dead-letters: at 1.0\ndead-letters: at 2.5\n"
