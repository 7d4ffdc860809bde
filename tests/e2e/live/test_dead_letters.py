"""A row that was refused, on the running chain: listed, corrected, sent again through a kill -9, in every sink once."""

import json
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable
from tests.contract.dying_replay import BEFORE_THE_MARK
from tests.e2e.support.processes import PATIENCE, PROJECT, await_that
from tests.e2e.support.streams import Stream
from tests.e2e.support.workload import Event
from tests.e2e.support.world import CATCH_UP_SECONDS, World, now

from engagement.dead_letters.letter import LetterId

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400 * PATIENCE)]

STORED_SECONDS = 60
COUNTED_SECONDS = 90
AHEAD = timedelta(seconds=20)
"""So far ahead, the event enters the window when all of this has been done, and stays in it."""
LENGTH_SECONDS = 60
COMMAND_SECONDS = 60
CODE = "E_RANGE_DURATION"


def command(world: World, *words: str, dies: str = "") -> "subprocess.CompletedProcess[bytes]":
    """`dead-letters`, or a `replay` of it that kills itself."""
    module = ("tests.contract.dying_replay", dies, *words[1:]) if dies else ("jobs.dead_letters", *words)
    environment = world.job_environment()
    environment["PYTHONPATH"] = f"{PROJECT / 'lib'}{os.pathsep}{PROJECT}"
    return subprocess.run(
        [sys.executable, "-m", *module], cwd=PROJECT, env=environment,
        capture_output=True, timeout=COMMAND_SECONDS * PATIENCE, check=False,
    )  # fmt: skip


def listed(world: World) -> list[dict[str, Any]]:
    done = command(world, "list", "--code", CODE, "--since", "5m", "--limit", "1000", "--json")
    assert done.returncode == 0, done.stderr
    letters: list[dict[str, Any]] = json.loads(done.stdout)["letters"]
    return letters


def letter_of(world: World, event_id: int) -> str | None:
    """Asked of the table: the command would be started once for each of hundreds of letters of earlier tests."""
    table = DeltaTable(Path(world.env["LAKE_PATH"]) / "dead_letters").to_pyarrow_table()
    for row in table.filter(pc.equal(table["code"], CODE)).to_pylist():
        if json.loads(row["raw_value"])["after"]["id"] == event_id:
            return str(LetterId(row["topic"], row["kafka_partition"], row["kafka_offset"], row["stage"]))
    return None


def counted_events(world: World, content_id: str) -> int:
    return int(str(world.redis.hget(f"content_stats:{content_id}", "events") or 0))


def test_a_refused_row_is_corrected_and_reaches_every_sink_once(world: World, job: Stream, tmp_path: Path) -> None:
    content_id = str(uuid4())
    world.execute(
        "insert into content (id, slug, title, content_type, length_seconds, publish_ts) "
        "values (%s, %s, 'Corrected', 'podcast', %s, now())",
        content_id, content_id, LENGTH_SECONDS,
    )  # fmt: skip
    happens = now() + AHEAD
    (event_id,) = world.insert(Event(content_id, "play", happens, -1))
    found: list[str | None] = []
    await_that(
        lambda: (found.append(letter_of(world, event_id)), found[-1])[1] is not None,
        STORED_SECONDS, lambda: f"no letter\n{job.tail()}",
    )  # fmt: skip
    letter = str(found[-1])
    world.oracle.await_equality(CATCH_UP_SECONDS, least_events=0)

    envelope = json.loads(command(world, "show", "--raw", letter).stdout)
    envelope["after"]["duration_ms"] = 30_000
    corrected = tmp_path / "corrected.json"
    corrected.write_text(json.dumps(envelope))
    words = ("replay", "--payload", str(corrected), letter)
    assert command(world, *words, dies=BEFORE_THE_MARK).returncode == -signal.SIGKILL
    assert [each["status"] for each in listed(world) if each["id"] == letter] == ["new"]
    again = command(world, *words)
    assert (again.returncode, again.stdout) == (
        0, b"dead-letters: 0 of 1 sent again; 1 had been sent before and are noted now\n",
    ), again.stderr  # fmt: skip
    assert command(world, *words).stdout == b"dead-letters: 0 of 0 sent again\n"

    await_that(
        lambda: counted_events(world, content_id) == 1,
        COUNTED_SECONDS, lambda: f"{counted_events(world, content_id)} events\n{job.tail()}",
    )  # fmt: skip
    for oracle in (world.lake, world.warehouse, world.receiver):
        oracle.await_equality(CATCH_UP_SECONDS)
    table = DeltaTable(Path(world.env["LAKE_PATH"]) / "enriched_events")
    rows = table.to_pyarrow_table(columns=["event_id", "duration_ms"]).to_pylist()
    assert [row["duration_ms"] for row in rows if row["event_id"] == event_id] == [30_000]

    # The source's own correction says that the row was invalid before; what the replay had counted is taken back.
    world.ledger.note_length(content_id, LENGTH_SECONDS)
    world.ledger.note(event_id, content_id, "play", happens, 45_000)
    world.execute("update engagement_events set duration_ms = 45000 where id = %s", event_id)
    world.oracle.await_equality(COUNTED_SECONDS, least_events=0)
    (status,) = (each for each in listed(world) if each["id"] == letter)
    assert [action["action"] for action in status["history"]] == ["replayed"]
