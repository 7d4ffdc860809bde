"""Events that the receiver refused, sent to it again by the real caller, to a real local HTTP server."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from tests.builders import CONTENT_ID, LSN, created, envelope, message, row
from tests.contract.scripted import Reply, Scripted, serving
from tests.dead_letters import Stored, store

from engagement.dead_letters.catalogue import CONTENT
from engagement.dead_letters.receiver import ReceiverReplays
from engagement.dead_letters.replay import Replayer, Tally
from engagement.dead_letters.selection import Selection
from engagement.dead_letters.table import LetterTable
from engagement.errors import PermanentSinkError
from engagement.sinks.external.keys import event_key
from engagement.sinks.external.options import ExternalOptions

NEW = Selection(statuses=("new",))
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def running() -> Iterator[Scripted]:
    with serving() as server:
        yield server


@pytest.fixture
def server(running: Scripted) -> Scripted:
    running.reset()
    return running


def letters(count: int) -> list[Stored]:
    values = [message(envelope("c", after=row(id=n + 1))).value or b"" for n in range(count)]
    return [Stored(value, n, "E_HTTP_REJECT", "external", stage="external") for n, value in enumerate(values)]


def replay(table: LetterTable, server: Scripted) -> Tally:
    catalogue = pa.Table.from_pylist([{"content_id": CONTENT_ID, "title": "A title"}], schema=CONTENT)
    receiver = ReceiverReplays(ExternalOptions(server.url), lambda: catalogue)
    return Replayer(table, {"external": receiver}, "me", lambda: NOW, lambda _tally: None).run(NEW)


def statuses(table: LetterTable) -> list[str]:
    return [letter.status for letter in reversed(table.newest(Selection(), 100))]


def test_an_event_goes_out_as_the_sink_sent_it_with_the_same_key(server: Scripted, tmp_path: Path) -> None:
    table = store(tmp_path, [Stored(created().value or b"", 7, "E_HTTP_REJECT", "external", stage="external")])
    assert replay(table, server).sent == 1
    (request,) = server.requests
    key = event_key("engagement", 1, LSN)
    assert request.headers["Idempotency-Key"] == key
    sent = request.document
    assert (sent["event_id"], sent["op"], sent["version"], sent["idempotency_key"]) == (1, "c", LSN, key)
    assert (sent["metadata"]["title"], sent["metadata"]["seconds"]) == ("A title", 30)
    (action,) = table.newest(Selection(), 1)[0].history
    assert action.detail == f"it answered 200 to {key}"


def test_a_flat_row_that_was_sent_again_before_keeps_its_version(server: Scripted, tmp_path: Path) -> None:
    flat = message(row(id=1)).value or b""
    table = store(tmp_path, [Stored(flat, 99, "E_HTTP_REJECT", "external", stage="external", replay_of=5)])
    assert replay(table, server).sent == 1
    (request,) = server.requests
    assert request.headers["Idempotency-Key"] == event_key("engagement", 1, 6)
    assert request.document["version"] == 6


@pytest.mark.parametrize("replay_of", [-5, 100, 2**63 - 1])
def test_a_letter_that_names_no_place_before_it_goes_out_as_the_version_that_was_refused(
    server: Scripted, tmp_path: Path, replay_of: int
) -> None:
    """As letters of earlier releases may; what comes with it goes too."""
    flat = message(row(id=1)).value or b""
    odd = Stored(flat, 99, "E_HTTP_REJECT", "external", stage="external", replay_of=replay_of)
    tally = replay(store(tmp_path, [odd, *letters(1)]), server)
    assert (tally.sent, tally.is_complete) == (2, True)
    keys = {request.headers["Idempotency-Key"] for request in server.requests}
    assert keys == {event_key("engagement", 1, 100), event_key("engagement", 1, LSN)}


def test_replaying_twice_sends_once(server: Scripted, tmp_path: Path) -> None:
    table = store(tmp_path, letters(3))
    assert (replay(table, server).sent, replay(table, server).selected, len(server.requests)) == (3, 0, 3)


def test_what_is_refused_again_stays(server: Scripted, tmp_path: Path) -> None:
    table = store(tmp_path, letters(3))
    server.reset(Reply(), Reply(422), Reply())
    tally = replay(table, server)
    assert (tally.sent, dict(tally.refused)) == (2, {"E_HTTP_REJECT": 1})
    assert statuses(table) == ["replayed", "new", "replayed"]


def test_an_answer_that_pauses_ends_the_run_and_what_went_before_is_marked(server: Scripted, tmp_path: Path) -> None:
    table = store(tmp_path, letters(3))
    server.reset(Reply(), Reply(401))
    with pytest.raises(PermanentSinkError, match="it answered 401"):
        replay(table, server)
    assert (statuses(table), len(server.requests)) == (["replayed", "new", "new"], 2)


def test_a_short_outage_is_waited_for_with_the_same_key(server: Scripted, tmp_path: Path) -> None:
    table = store(tmp_path, letters(1))
    server.reset(Reply(503), Reply(hang_up=True), Reply())
    assert replay(table, server).sent == 1
    assert {request.headers["Idempotency-Key"] for request in server.requests} == {event_key("engagement", 1, LSN)}
