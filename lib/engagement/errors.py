"""The project's errors, one tree; every error raised on purpose is one of these.

EngagementError
├─ ConfigError              stop before anything starts (exit code 2)
├─ ContractError            data breaks a schema contract
├─ GapError                 a sink went back farther than one micro-batch makes up for, or lost its fence: start again
├─ TransientError           worth another try
│  └─ TransientSinkError    a destination is away or busy, with its own Retry-After
├─ PermanentError           another try cannot help
│  ├─ PermanentSinkError    a destination refused
│  └─ DataLossError         Kafka no longer holds what a sink still needs
└─ StackError               an embedded service could not start

Lives here: names and the data they carry. Must not live here: decisions about retries or exit codes.
"""

from collections.abc import Iterable
from pathlib import Path


class EngagementError(Exception):
    """Anything this project raises on purpose; its text is meant for a person."""


class ConfigError(EngagementError):
    """Settings that cannot be used, every problem listed at once."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[type["ConfigError"], tuple[tuple[str, ...]]]:
        return type(self), (self.problems,)


class ContractError(EngagementError):
    """Data whose shape breaks a contract: a dead letter for one row, a stop for a batch."""


class GapError(EngagementError):
    """A sink that lacks more before a micro-batch than one could hold, its fence, or that one's topic: start again."""


class TransientError(EngagementError):
    """A failure that another try may cure."""


class TransientSinkError(TransientError):
    """A destination that cannot take data now; `retry_after` is in seconds, None when it did not say."""

    def __init__(self, sink: str, reason: str = "is not available", retry_after: float | None = None) -> None:
        self.sink = sink
        self.reason = reason
        self.retry_after = retry_after
        super().__init__(f"{sink}: {reason}")

    def __reduce__(self) -> tuple[type["TransientSinkError"], tuple[str, str, float | None]]:
        return type(self), (self.sink, self.reason, self.retry_after)


class PermanentError(EngagementError):
    """A failure that another try cannot cure."""


class PermanentSinkError(PermanentError):
    """A destination that refused."""

    def __init__(self, sink: str, reason: str = "refused") -> None:
        self.sink = sink
        self.reason = reason
        super().__init__(f"{sink}: {reason}")

    def __reduce__(self) -> tuple[type["PermanentSinkError"], tuple[str, str]]:
        return type(self), (self.sink, self.reason)


class DataLossError(PermanentError):
    """Kafka no longer holds messages that a sink has yet to take; its text says which, and what brings them back."""


class StackError(EngagementError):
    """An embedded service that could not start: which one, why, where its log is, what to do."""

    def __init__(self, service: str, reason: str, log: Path | None = None, hint: str = "") -> None:
        self.service = service
        self.reason = reason
        self.log = log
        self.hint = hint
        lines = [f"{service}: {reason}", f"  log: {log}" if log else "", f"  {hint}" if hint else ""]
        super().__init__("\n".join(line for line in lines if line))

    def __reduce__(self) -> tuple[type["StackError"], tuple[str, str, Path | None, str]]:
        return type(self), (self.service, self.reason, self.log, self.hint)


def first_line(error: Exception) -> str:
    """The first line that an error says, or its class: Spark's errors go on with a stack trace."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
