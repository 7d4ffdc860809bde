"""Jobs under names of ours: which one is waited for, and when the next one is begun."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from google.api_core import exceptions as google

from engagement.errors import PermanentSinkError, TransientSinkError
from engagement.sinks.bigquery.jobs import run_job

BUSY = google.ServiceUnavailable("backendError")
WRONG = google.BadRequest("invalidQuery", errors=[{"reason": "invalidQuery"}])


@dataclass
class Job:
    """A job as BigQuery has it; `polls` are what questions about it meet before its end is told."""

    end: google.GoogleAPICallError | None = None
    polls: list[Exception] = field(default_factory=list)
    known_state: str = "PENDING"

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


class Service:
    """Runs jobs one after the other; an id serves once."""

    def __init__(self, *script: Job) -> None:
        self.script, self.jobs = list(script), dict[str, Job]()

    def start(self, job_id: str) -> Job:
        if job_id in self.jobs:
            raise google.Conflict("duplicate")
        self.jobs[job_id] = self.script.pop(0)
        return self.jobs[job_id]

    def get_job(self, job_id: str, **_options: object) -> Job:
        return self.jobs[job_id]

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
