"""What a receiver's answer means: the one table, for requests and for each event of a batch alike. Pure.

| answer | verdict |
|---|---|
| 2xx | done |
| 400, 413, 415, 422 | refused: a batch is split, a single event becomes a dead letter |
| 408, 409, 425, 429, 5xx, timeout, reset, an answer that breaks off | retry, with the same key |
| 401, 403, 404, 405, 410, 3xx, TLS error, an address that may not be spoken to, anything else | pause |

A status that is not in the contract pauses as well: it loses nothing and floods nobody, and a person sees it.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum

LONGEST_RETRY_AFTER_SECONDS = 300.0
_SECONDS = re.compile(r"[0-9]+")
_REFUSALS = frozenset({400, 413, 415, 422})
_RETRIES = frozenset({408, 409, 425, 429})
_SUCCESS, _SERVER_ERROR = range(200, 300), range(500, 600)


class Verdict(StrEnum):
    """What follows from an answer."""

    DONE = "done"
    REFUSED = "refused"
    RETRY = "retry"
    PAUSE = "pause"


class Trouble(StrEnum):
    """Why there was no answer."""

    TIMEOUT = "timeout"
    CONNECTION = "connection failed"
    BROKEN_OFF = "the answer broke off"
    TLS = "TLS error"
    ADDRESS = "its address may not be spoken to"


@dataclass(frozen=True)
class Answer:
    """A receiver's answer, or why there was none."""

    status: int | None = None
    trouble: Trouble | None = None
    retry_after_seconds: float | None = None
    body: bytes | None = b""
    """None when there was more than is read (see Caller), so that nobody takes a part for the whole."""

    @property
    def verdict(self) -> Verdict:
        """What follows."""
        if self.status is not None:
            return verdict_of(self.status)
        return Verdict.PAUSE if self.trouble in (Trouble.TLS, Trouble.ADDRESS) else Verdict.RETRY

    @property
    def told(self) -> str:
        """The answer in a few words, without any of its content."""
        return f"it answered {self.status}" if self.status is not None else str(self.trouble)


def verdict_of(status: int) -> Verdict:
    """What follows from a status.

    >>> [str(verdict_of(status)) for status in (204, 422, 503, 409, 401, 302, 418)]
    ['done', 'refused', 'retry', 'retry', 'pause', 'pause', 'pause']
    """
    if status in _SUCCESS:
        return Verdict.DONE
    if status in _REFUSALS:
        return Verdict.REFUSED
    if status in _RETRIES or status in _SERVER_ERROR:
        return Verdict.RETRY
    return Verdict.PAUSE


def retry_after_seconds(header: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for, at most 300; None without one that can be read.

    >>> retry_after_seconds("7", datetime(2026, 1, 1, tzinfo=UTC)), retry_after_seconds("86400", datetime.now(UTC))
    (7.0, 300.0)
    """
    if header is None:
        return None
    if _SECONDS.fullmatch(header.strip()):
        return min(float(header), LONGEST_RETRY_AFTER_SECONDS)
    try:
        until = parsedate_to_datetime(header)
        aware = until if until.tzinfo else until.replace(tzinfo=UTC)
        seconds = (aware - now).total_seconds()
    except (TypeError, ValueError, OverflowError):  # the last: years and zones that no calendar has
        return None
    return min(max(0.0, seconds), LONGEST_RETRY_AFTER_SECONDS)
