"""What delta-rs can answer, as this project's errors."""

from collections.abc import Iterator
from contextlib import contextmanager

from deltalake.exceptions import CommitFailedError, DeltaError

from engagement.errors import TransientSinkError, first_line

OTHER_DRIVER = "another driver wrote to it meanwhile; going on from its fence"


@contextmanager
def translated(sink: str, lost: str = OTHER_DRIVER) -> Iterator[None]:
    """Turn errors of delta-rs into TransientSinkError; `lost` says what became of a commit that was not first."""
    try:
        yield
    except CommitFailedError as error:
        raise TransientSinkError(sink, f"{lost} ({first_line(error)})") from error
    except (DeltaError, OSError) as error:
        raise TransientSinkError(sink, first_line(error)) from error
