"""What BigQuery answers, as this project's errors: typed, and without a word of what it quotes."""

import pytest
import requests
from google.api_core import exceptions as google
from google.auth.exceptions import DefaultCredentialsError, RefreshError, TransportError

from engagement.errors import PermanentSinkError, TransientSinkError
from engagement.sinks.bigquery.faults import translated

QUOTED = "the row {'device': 'secret'}"


def told(error: Exception) -> TransientSinkError | PermanentSinkError:
    with pytest.raises((TransientSinkError, PermanentSinkError)) as caught, translated():
        raise error
    assert isinstance(caught.value, TransientSinkError | PermanentSinkError)
    assert "secret" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        google.ServiceUnavailable(QUOTED),
        google.ResourceExhausted(QUOTED),
        google.Aborted(QUOTED),
        google.InternalServerError(QUOTED),
        google.DeadlineExceeded(QUOTED),
        google.Unknown(QUOTED),
        google.NotFound(QUOTED),
        google.TooManyRequests(QUOTED),
        google.BadGateway(QUOTED),
        google.Forbidden(QUOTED, errors=[{"reason": "rateLimitExceeded"}]),
        google.BadRequest("Could not serialize access to table due to concurrent update"),
        google.RetryError(QUOTED, None),
        requests.ConnectionError(QUOTED),
        requests.Timeout(QUOTED),
        TransportError(QUOTED),
        TimeoutError(QUOTED),
        RefreshError(QUOTED, retryable=True),  # the token's endpoint answered 5xx
        RefreshError(TransportError(QUOTED)),  # the metadata server of a machine of Google's could not be reached
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_another_try_may_cure_is_transient(error: Exception) -> None:
    assert isinstance(told(error), TransientSinkError)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (google.InvalidArgument(QUOTED), "INVALID_ARGUMENT"),
        (google.PermissionDenied(QUOTED), "PERMISSION_DENIED"),
        (google.Forbidden(QUOTED, errors=[{"reason": "accessDenied", "message": QUOTED}]), "accessDenied"),
        (google.BadRequest(QUOTED, errors=[{"reason": "invalidQuery"}]), "invalidQuery"),
        (DefaultCredentialsError(QUOTED), "DefaultCredentialsError"),
        (RefreshError("invalid_grant", QUOTED), "RefreshError"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_no_try_cures_is_permanent_and_names_the_reason(error: Exception, reason: str) -> None:
    found = told(error)
    assert isinstance(found, PermanentSinkError)
    assert reason in str(found)
