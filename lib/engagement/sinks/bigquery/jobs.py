"""BigQuery's jobs under names of ours, so that a job that was begun is waited for and never begun twice."""

from collections.abc import Callable
from typing import Any

from google.api_core.exceptions import Conflict, GoogleAPICallError
from google.cloud import bigquery

from engagement.sinks.bigquery.faults import is_transient, translated

JOB_SECONDS = 600.0
_TRIES = 3
_NO_RETRY: Any = None


def run_job(client: bigquery.Client, name: str, start: Callable[[str], Any]) -> Any:  # noqa: ANN401 jobs of several kinds
    """Start a job under an id made of `name`, or find the one that has it, and wait for its end.

    An id serves once: what failed for a reason that may pass is tried under the next one. Raises: TransientSinkError,
    PermanentSinkError.
    """
    with translated():
        for number in range(_TRIES):
            job_id = f"{name}_{number}"
            try:
                job = start(job_id)
            except Conflict:
                job = client.get_job(job_id, retry=_NO_RETRY, timeout=JOB_SECONDS)
            try:
                job.result(retry=_NO_RETRY, timeout=JOB_SECONDS)
            except GoogleAPICallError as error:
                if number == _TRIES - 1 or not is_transient(error):
                    raise
            else:
                break
        return job
