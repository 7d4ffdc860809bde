"""BigQuery's jobs under names of ours, so that a job is waited for and not begun again under the same name."""

from collections.abc import Callable
from itertools import count
from typing import Any

from google.api_core.exceptions import Conflict, GoogleAPICallError
from google.cloud import bigquery

from engagement.errors import TransientSinkError
from engagement.sinks.bigquery.faults import SINK, is_transient, translated

JOB_SECONDS = 600.0
_TRIES = 3
"""Jobs that one call begins."""
_NO_RETRY: Any = None


def run_job(client: bigquery.Client, name: str, start: Callable[[str], Any]) -> Any:  # noqa: ANN401 jobs of several kinds
    """Start a job under an id made of `name`, or find the one that has it, and wait for its end.

    An id serves once: after a job that is known to have failed the next one is begun. One that an earlier call began
    uses up no try, however it failed: its cause may be mended by now. While it is not known whether a job has ended,
    none of its name is begun beside it: the next call finds it and waits.

    Raises: TransientSinkError, PermanentSinkError.
    """
    tries = 0
    with translated():
        for number in count():
            job_id = f"{name}_{number}"
            try:
                job = start(job_id)
            except Conflict:
                job, own = client.get_job(job_id, retry=_NO_RETRY, timeout=JOB_SECONDS), False
            else:
                own, tries = True, tries + 1
            error = _failure_of(job)
            if error is None:
                break
            if own and (tries == _TRIES or not is_transient(error)):
                raise error
    return job


def _failure_of(job: Any) -> GoogleAPICallError | None:  # noqa: ANN401 as above
    """Wait for a job's end; why it failed, None if it did not. Raises: TransientSinkError while it has not ended."""
    try:
        job.result(retry=_NO_RETRY, timeout=JOB_SECONDS)
    except GoogleAPICallError as error:
        # The question may have failed and not the job: what the job itself says is what counts.
        job.reload(retry=_NO_RETRY, timeout=JOB_SECONDS)
        if job.state != "DONE":
            raise TransientSinkError(SINK, "whether its job has ended is not known yet; the next try asks") from error
        failure: GoogleAPICallError | None = job.exception()
        return failure
    return None
