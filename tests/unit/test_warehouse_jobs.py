"""Jobs under names of ours: which one is waited for, and when the next one is begun."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from google.api_core import exceptions as google
from google.cloud.bigquery import Table

from engagement.errors import PermanentSinkError, TransientSinkError
from engagement.sinks.base import Chunk
from engagement.sinks.bigquery.client import WarehouseOptions
from engagement.sinks.bigquery.jobs import run_job
from engagement.sinks.bigquery.load import WarehouseLoader

NOW = datetime(2026, 11, 23, 15, tzinfo=UTC)

BUSY = google.ServiceUnavailable("backendError")
WRONG = google.BadRequest("invalidQuery", errors=[{"reason": "invalidQuery"}])


@dataclass
class Job:
    """A job as BigQuery has it; `polls` are what questions about it meet before its end is told."""

    end: google.GoogleAPICallError | None = None
    polls: list[Exception] = field(default_factory=list)
    known_state: str = "PENDING"
    num_dml_affected_rows: int = 10

    @property
    def state(self) -> str:
        return self.known_state

    def result(self, **_options: object) -> None:
        if self.polls:
            raise self.polls.pop(0)
        self.known_state = "DONE"
        if self.end:
            raise self.end

    def reload(self, **_options: object) -> None:
        self.known_state = "RUNNING" if self.polls else "DONE"

    def exception(self) -> google.GoogleAPICallError | None:
        return self.end


def made(name: str, at_ms: int) -> Table:
    return Table.from_api_repr(  # type: ignore[no-untyped-call, no-any-return]
        {**Table(name).to_api_repr(), "creationTime": str(at_ms)}  # type: ignore[no-untyped-call]
    )


class Service:
    """Runs jobs one after the other; an id serves once."""

    def __init__(self, *script: Job) -> None:
        self.script, self.jobs, self.events_made_ms = list(script), dict[str, Job](), 1_000

    def start(self, job_id: str) -> Job:
        if job_id in self.jobs:
            raise google.Conflict("duplicate")
        self.jobs[job_id] = self.script.pop(0)
        return self.jobs[job_id]

    def get_job(self, job_id: str, **_options: object) -> Job:
        return self.jobs[job_id]

    def query(self, _text: str, _config: object, *, job_id: str, **_options: object) -> Job:
        return self.start(job_id)

    def get_table(self, name: str, **_options: object) -> Table:
        return made(name, self.events_made_ms)

    def run(self) -> Job:
        client: Any = self
        found: Job = run_job(client, "name", self.start)
        return found

    @property
    def started(self) -> Sequence[str]:
        return list(self.jobs)


def test_a_question_that_fails_starts_no_second_job() -> None:
    service = Service(Job(polls=[BUSY, BUSY]), Job())
    with pytest.raises(TransientSinkError):
        service.run()
    service.jobs["name_0"].polls.clear()
    assert service.run() is service.jobs["name_0"]
    assert service.started == ["name_0"]


def test_a_job_that_ended_well_while_nobody_could_hear_it_is_done() -> None:
    service = Service(Job(polls=[BUSY]), Job())
    assert service.run() is service.jobs["name_0"]
    assert service.started == ["name_0"]


def test_what_may_pass_is_tried_under_the_next_id_and_three_times_at_most() -> None:
    service = Service(Job(BUSY), Job())
    assert service.run() is service.jobs["name_1"]
    failing = Service(*(Job(BUSY) for _ in range(9)))
    with pytest.raises(TransientSinkError):
        failing.run()
    assert failing.started == ["name_0", "name_1", "name_2"]


@pytest.mark.parametrize("end", [BUSY, WRONG], ids=["may pass", "was refused"])
def test_ids_that_failed_before_use_up_no_try(end: google.GoogleAPICallError) -> None:
    service = Service(Job(BUSY), Job(BUSY), Job(end), Job())
    with pytest.raises((TransientSinkError, PermanentSinkError)):
        service.run()
    assert service.run() is service.jobs["name_3"]


def test_what_is_refused_is_not_tried_again_by_itself() -> None:
    service = Service(Job(WRONG), Job())
    with pytest.raises(PermanentSinkError, match="invalidQuery"):
        service.run()
    assert service.started == ["name_0"]


def test_what_was_inserted_into_a_table_that_is_gone_is_inserted_into_the_next_one() -> None:
    """The staging table outlives a backfill that was killed before it took it away."""
    service = Service(Job(), Job())
    loader = WarehouseLoader(WarehouseOptions("p", "d"), nullcontext, lambda: NOW)
    loader._rest._client = cast("Any", service)
    nothing: Any = None
    chunk = Chunk("chunk_0", nothing, ("event_id",))
    staging = made("p.d.staging_chunk_0", 500)
    for made_ms in (1_000, 1_000, 2_000):
        service.events_made_ms = made_ms
        assert loader._insert(chunk, staging, []) == 10
    assert service.started == ["chunk_0_500_1000_insert_0", "chunk_0_500_2000_insert_0"]
