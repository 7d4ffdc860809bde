"""One request and its answer: the only place that speaks HTTP. Nothing it raises or returns quotes what was sent."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime

import requests
import urllib3

from engagement.sinks.external.answers import Answer, Trouble, retry_after_seconds
from engagement.sinks.external.connections import AddressError, new_session
from engagement.sinks.external.options import ExternalOptions
from engagement.sinks.external.signing import signature_headers

MOST_ANSWER_BYTES = 64 * 1024
_PIECE_BYTES = 16 * 1024


class Caller:
    """Posts to the receiver over one kept connection; used by one thread. `clock` is epoch seconds."""

    def __init__(self, options: ExternalOptions, clock: Callable[[], float] = time.time) -> None:
        self._options = options
        self._clock = clock
        self._session: requests.Session | None = None

    def post(self, key: str, body: str) -> Answer:
        """Send once. The same key and body may be sent again at any time."""
        if self._session is None:
            self._session = new_session(self._options)
        data = body.encode()
        headers = {"Idempotency-Key": key}
        headers |= signature_headers(self._options.signing_secrets, key, int(self._clock()), data)
        seconds = self._options.timeout_seconds
        try:
            with self._session.post(
                self._options.url, data, headers=headers, timeout=seconds, allow_redirects=False, stream=True
            ) as response:
                return self._read(response)
        except AddressError:
            return Answer(trouble=Trouble.ADDRESS)
        except requests.exceptions.SSLError:
            return Answer(trouble=Trouble.TLS)
        except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError):
            return Answer(trouble=Trouble.TIMEOUT)
        except (requests.exceptions.ConnectionError, OSError):
            return Answer(trouble=Trouble.CONNECTION)
        except (requests.exceptions.ChunkedEncodingError, urllib3.exceptions.HTTPError):
            return Answer(trouble=Trouble.BROKEN_OFF)

    def close(self) -> None:
        """Let go of the connection."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _read(self, response: requests.Response) -> Answer:
        now = datetime.fromtimestamp(self._clock(), UTC)
        after = retry_after_seconds(response.headers.get("Retry-After"), now)
        body, deadline = b"", time.monotonic() + self._options.timeout_seconds
        while piece := response.raw.read1(_PIECE_BYTES, decode_content=True):
            body += piece
            if len(body) > MOST_ANSWER_BYTES or time.monotonic() > deadline:
                # The rest is not read, and so the connection is of no more use.
                response.raw.close()
                return Answer(response.status_code, retry_after_seconds=after, body=None)
        return Answer(response.status_code, retry_after_seconds=after, body=body)


def document_of(answer: Answer) -> object:
    """The JSON that an answer holds; None when it is no JSON."""
    try:
        return json.loads(answer.body or b"")
    except (ValueError, RecursionError):
        return None
