"""What every HTTP answer gets, whoever made it: security headers, a count by status code, and no stack trace.

And who gets one: a page of the internet whose name leads to the loopback (DNS rebinding) is told nothing.
"""

import re
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from typing import Any

from starlette.responses import JSONResponse

from engagement.settings.urls import is_loopback

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

STATIC_PREFIX = "/static/"
SECURITY_HEADERS: Mapping[str, str] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_NAME = re.compile(r"(\[[^\]]*\]|[^:]*)(:\d*)?")
BAD_REQUEST = 400


def names_of(address: str) -> frozenset[str]:
    """Name the hosts that requests may ask for where the API listens on `address`; empty: any.

    >>> sorted(names_of("::1")), sorted(names_of("0.0.0.0"))
    (['127.0.0.1', '[::1]', 'localhost'], [])
    >>> [names_of(spelling) >= _LOOPBACK for spelling in ("LOCALHOST", "0:0:0:0:0:0:0:1", "127.1", "192.0.2.1")]
    [True, True, True, False]
    """
    host = address.lower()
    own = f"[{host}]" if ":" in host else host
    # The system takes 127.1 for 127.0.0.1.
    return _LOOPBACK | {own} if is_loopback(f"http://{own}") or own.startswith("127.") else frozenset()


def headers_for(path: str) -> dict[str, str]:
    """Return the headers of an answer: live data is never stored, files are asked for again each time."""
    cache = "no-cache" if path == "/" or path.startswith(STATIC_PREFIX) else "no-store"
    return {**SECURITY_HEADERS, "cache-control": cache}


class Guard:
    """ASGI middleware; `responses` counts answers by status code, `names` are the hosts to answer for, empty: any."""

    def __init__(self, app: AsgiApp, responses: Counter[int], names: Collection[str] = ()) -> None:
        self._app, self._responses, self._names = app, responses, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and complete the answer's head."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        extra = [(name.encode(), value.encode()) for name, value in headers_for(scope["path"]).items()]

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._responses[message["status"]] += 1
                message["headers"] = [*message.get("headers", ()), *extra]
            await send(message)

        app: AsgiApp = self._app if self._is_meant(scope) else _STRANGER
        await app(scope, receive, send_guarded)

    def _is_meant(self, scope: Scope) -> bool:
        """Whether the request asks for one of our names; without a Host, as of HTTP/1.0, it comes from no browser."""
        asked = [value.decode("latin-1").lower() for name, value in scope["headers"] if name == b"host"]
        named = [_NAME.fullmatch(host) for host in asked]
        return not self._names or all(found and found[1] in self._names for found in named)


_STRANGER = JSONResponse({"detail": "not a name of this machine's loopback; see METRICS_HOST"}, BAD_REQUEST)
