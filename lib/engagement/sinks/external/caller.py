"""One request and its answer: the only place that speaks HTTP. Nothing it raises or returns quotes what was sent."""

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import requests
import urllib3

from engagement.sinks.external.answers import Answer, Trouble, retry_after_seconds
from engagement.sinks.external.connections import AddressError, Guard, new_session
from engagement.sinks.external.options import ExternalOptions
from engagement.sinks.external.signing import signature_headers

MOST_ANSWER_BYTES = 64 * 1024
"""That is read of an answer, beyond as much as was sent: what it says of each event is shorter than the event."""
_PIECE_BYTES = 16 * 1024
_BLANKS = b" \t\r\n\xef\xbb\xbf"
"""What may stand before JSON, a byte order mark too."""


class Caller:
    """Posts to the receiver over one kept connection; used by one thread, beside those left behind in a request.

    `clock` is epoch seconds.
    """

    def __init__(self, options: ExternalOptions, clock: Callable[[], float] = time.time) -> None:
        self._options = options
        self._clock = clock
        self._line: _Line | None = None

    def post(self, key: str, body: str) -> Answer:
        """Send once; ends within the limit, whatever the receiver does. It may be sent again at any time.

        A lookup of the receiver's name ends when the system's resolver ends it, and with it a request that is late.
        """
        if self._line is None:
            self._line = _Line(self._options)
        data = body.encode()
        headers = {"Idempotency-Key": key}
        headers |= signature_headers(self._options.signing_secrets, key, int(self._clock()), data)
        try:
            with self._line.send(headers, data) as response:
                return self._read(response, MOST_ANSWER_BYTES + len(data))
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
        if self._line is not None:
            self._line.close()
            self._line = None

    def _read(self, response: requests.Response, most_bytes: int) -> Answer:
        now = datetime.fromtimestamp(self._clock(), UTC)
        after = retry_after_seconds(response.headers.get("Retry-After"), now)
        body = b""
        while piece := response.raw.read1(_PIECE_BYTES, decode_content=True):
            body += piece
            if len(body) > most_bytes:
                # The rest is not read, and so the connection is of no more use.
                response.raw.close()
                return Answer(response.status_code, retry_after_seconds=after, body=None)
        return Answer(response.status_code, retry_after_seconds=after, body=body)


class _Line:
    """A session that always asks for the same: what does not change from request to request is prepared once.

    `Session.post` would prepare it each time, which takes a third of what a request costs, and look for redirects and
    cookies, of which we follow and keep none.
    """

    def __init__(self, options: ExternalOptions) -> None:
        self._seconds = options.timeout_seconds
        self._guard = Guard(allow_private=options.allow_private)
        self._session = new_session(options, self._guard)
        self._prepared = self._session.prepare_request(requests.Request("POST", options.url))
        self._adapter = self._session.get_adapter(options.url)

    def send(self, headers: Mapping[str, str], data: bytes) -> requests.Response:
        self._guard.begin(self._seconds)
        request = self._prepared.copy()
        request.body = data
        request.headers.update({**headers, "Content-Length": str(len(data))})
        return self._adapter.send(request, stream=True, timeout=self._seconds, verify=self._session.verify or True)

    def close(self) -> None:
        self._session.close()


def document_of(answer: Answer) -> object:
    """The JSON that an answer holds; None when it holds other text, or nothing.

    Raises: ValueError when its end is missing: it was not read, or JSON begins that is none as a whole.
    """
    if answer.body is None:
        raise ValueError("the answer was not read to its end")
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        # Where the end of the connection is that of the body, nothing but the JSON tells that a part is missing.
        if answer.body.lstrip(_BLANKS).startswith((b"{", b"[")):
            raise ValueError("the answer breaks off, or is no JSON") from None
        return None
