"""What BigQuery and Spark can answer, as this project's errors. BigQuery's messages can quote rows: reasons only."""

from collections.abc import Iterator
from contextlib import contextmanager

import requests
from google.api_core import exceptions as google
from google.auth.exceptions import GoogleAuthError, TransportError

from engagement.errors import PermanentSinkError, TransientSinkError

SINK = "warehouse"

_TRANSIENT = (
    google.ServerError,  # UNAVAILABLE, INTERNAL, DEADLINE_EXCEEDED, UNKNOWN, HTTP 5xx
    google.TooManyRequests,  # RESOURCE_EXHAUSTED too
    google.Conflict,  # ABORTED too
    google.NotFound,  # a stream that was lost, or a table: the next start makes it again
    google.Cancelled,
)
_TRANSIENT_REASONS = frozenset(
    {"backendError", "internalError", "jobRateLimitExceeded", "rateLimitExceeded", "quotaExceeded", "timeout"}
)
_RACE = "concurrent update"
"""In what BigQuery says when two statements changed the same table: the later one may be tried again."""


@contextmanager
def translated() -> Iterator[None]:
    """Turn Google's errors into TransientSinkError and PermanentSinkError, with BigQuery's reason."""
    try:
        yield
    except google.GoogleAPICallError as error:
        if is_transient(error):
            raise TransientSinkError(SINK, f"did not answer as it should: {reason_of(error)}") from error
        raise PermanentSinkError(SINK, f"refused: {reason_of(error)}") from error
    except (google.RetryError, requests.RequestException, TimeoutError) as error:
        raise TransientSinkError(SINK, f"cannot be reached: {type(error).__name__}") from error
    except GoogleAuthError as error:
        if _may_pass(error):
            raise TransientSinkError(SINK, f"cannot be reached for a token: {type(error).__name__}") from error
        raise PermanentSinkError(SINK, f"its credentials do not serve: {type(error).__name__}") from error


def is_transient(error: google.GoogleAPICallError) -> bool:
    """Whether another try may help."""
    return isinstance(error, _TRANSIENT) or bool(_TRANSIENT_REASONS & set(_reasons(error))) or _RACE in error.message


def _may_pass(error: GoogleAuthError) -> bool:
    """Whether who gives out tokens was only away: it says so, or an error of the connection lies within."""
    within = (error, error.__cause__, *error.args)
    return error.retryable or any(isinstance(each, TransportError) for each in within)


def reason_of(error: google.GoogleAPICallError) -> str:
    """BigQuery's own word for it, such as accessDenied or INVALID_ARGUMENT; else the kind of error.

    >>> reason_of(google.Forbidden("secret", errors=[{"reason": "accessDenied"}]))
    'accessDenied'
    """
    named = ", ".join(dict.fromkeys(_reasons(error)))
    code = error.grpc_status_code
    return named or (str(code.name) if code is not None else type(error).__name__)


def _reasons(error: google.GoogleAPICallError) -> list[str]:
    return [str(detail["reason"]) for detail in error.errors if isinstance(detail, dict) and detail.get("reason")]
