"""What every HTTP answer gets, whoever made it: security headers, a count by status code, and no stack trace."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

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


def headers_for(path: str) -> dict[str, str]:
    """Return the headers of an answer: live data is never stored, files are asked for again each time."""
    cache = "no-cache" if path == "/" or path.startswith(STATIC_PREFIX) else "no-store"
    return {**SECURITY_HEADERS, "cache-control": cache}


class Guard:
    """ASGI middleware; `responses` counts answers by status code."""

    def __init__(self, app: AsgiApp, responses: Counter[int]) -> None:
        self._app, self._responses = app, responses

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

        await self._app(scope, receive, send_guarded)
