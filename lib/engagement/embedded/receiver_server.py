"""The example receiver: what a partner's side of the external delivery looks like. Run by `receiver.Receiver`.

It honours idempotency keys, checks token and signature, judges each event of a batch for itself, can be told to fail,
and shows what it has taken. Its settings come in RECEIVER_* variables.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from annotated_types import Interval
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from engagement.embedded.receiver_book import ReceiverBook, Taken, read_event
from engagement.embedded.receiver_faults import Fault, FaultPlan, FaultScript

SIGNED_WITHIN_SECONDS = 300
_BAD, _UNAUTHORIZED, _REFUSED = 400, 401, 422


def is_signed(headers: Mapping[str, str], body: bytes, secret: str, now: float) -> bool:
    """Whether one of the Standard Webhooks signatures is ours, and its time is about now."""
    message_id, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not at.isdigit() or abs(now - int(at)) > SIGNED_WITHIN_SECONDS:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{message_id}.{at}.".encode() + body, hashlib.sha256).digest()
    expected = "v1," + base64.b64encode(digest).decode()
    return any(secrets.compare_digest(expected, given) for given in headers.get("webhook-signature", "").split(" "))


class ExampleReceiver:
    """Takes events, and says what it has taken; an empty token or secret is not asked for."""

    def __init__(self, book: ReceiverBook, token: str, signing_secret: str) -> None:
        self._book = book
        self._script = FaultScript()
        self._token = token
        self._signing_secret = signing_secret

    async def receive(self, request: Request) -> Response:
        """`POST /events`: an event, `{events: […]}`, or a heartbeat."""
        fault, body = self._script.next(time.monotonic()), await request.body()
        kind, response = self._answer(request.headers, body, fault)
        await asyncio.sleep(fault.delay_seconds)
        self._book.note(kind, time.time())
        return response

    async def stats(self) -> dict[str, Any]:
        """`GET /stats`: versions delivered, repeats and conflicts of keys, distinct events, answers by status."""
        return self._book.stats()

    async def versions(self, after: int = 0, limit: Annotated[int, Interval(ge=1, le=10_000)] = 100) -> list[Any]:
        """`GET /versions`: what was taken, in the order in which it first came."""
        return self._book.versions(after, limit)

    async def event(self, event_id: int) -> list[Any]:
        """`GET /events/{event_id}`: the versions of one event."""
        found = self._book.event(event_id)
        if not found:
            raise HTTPException(404, "no such event")
        return found

    async def begin_faults(self, plan: FaultPlan, request: Request) -> dict[str, int]:
        """`PUT /faults`: fail as told, beginning with the next request."""
        self._authorize(request.headers)
        self._script.begin(plan)
        return {"faults": len(plan.faults)}

    async def end_faults(self, request: Request) -> dict[str, int]:
        """`DELETE /faults`: serve as usual."""
        self._authorize(request.headers)
        self._script.clear()
        return {"faults": 0}

    def _authorize(self, headers: Mapping[str, str]) -> None:
        given = headers.get("authorization", "").removeprefix("Bearer ")
        if self._token and not secrets.compare_digest(given.encode(), self._token.encode()):
            raise HTTPException(_UNAUTHORIZED, "no valid token")

    def _answer(self, headers: Mapping[str, str], body: bytes, fault: Fault) -> tuple[str, Response]:
        """What the request counts as, and its answer."""
        if fault.status is not None:
            told = {"retry-after": fault.retry_after, "location": fault.location}
            return _refusal(fault.status, "as planned", {k: v for k, v in told.items() if v is not None})
        try:
            self._authorize(headers)
        except HTTPException as error:
            return _refusal(error.status_code, error.detail)
        if self._signing_secret and not is_signed(headers, body, self._signing_secret, time.time()):
            return _refusal(_UNAUTHORIZED, "no valid signature")
        kind, response = self._take(body, fault)
        return kind, StreamingResponse(_broken(), headers={"content-length": "1000"}) if fault.truncate else response

    def _take(self, body: bytes, fault: Fault) -> tuple[str, Response]:
        try:
            document = json.loads(body)
        except ValueError:
            return _refusal(_BAD, "no JSON")
        match document:
            case {"type": "heartbeat"}:
                return "heartbeat", JSONResponse({"status": "ok"})
            case {"events": list(events)}:
                judged = [_judge(event, fault) for event in events]
                self._book.take([found for found in judged if isinstance(found, Taken)], time.time())
                return "200", JSONResponse({"results": [_result(index, found) for index, found in enumerate(judged)]})
        found = _judge(document, fault)
        if isinstance(found, str):
            return _refusal(_REFUSED, found)
        self._book.take([found], time.time())
        return "200", JSONResponse({"status": "accepted"})


def create_app(book: ReceiverBook, receiver: ExampleReceiver) -> FastAPI:
    """The receiver's addresses."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        book.open()
        yield
        book.close()

    async def health() -> dict[str, str]:
        return {"status": "ok"}

    app = FastAPI(title="Example receiver", lifespan=lifespan)
    app.add_api_route("/events", receiver.receive, methods=["POST"])
    app.add_api_route("/health", health)
    app.add_api_route("/stats", receiver.stats)
    app.add_api_route("/versions", receiver.versions)
    app.add_api_route("/events/{event_id}", receiver.event)
    app.add_api_route("/faults", receiver.begin_faults, methods=["PUT"])
    app.add_api_route("/faults", receiver.end_faults, methods=["DELETE"])
    return app


async def _broken() -> AsyncIterator[bytes]:
    yield b'{"results": ['
    raise ConnectionResetError("as planned")


def _refusal(status: int, error: str, headers: Mapping[str, str] | None = None) -> tuple[str, Response]:
    return str(status), JSONResponse({"error": error}, status, headers)


def _judge(event: object, fault: Fault) -> Taken | str:
    """The event, or why it is refused."""
    found = read_event(event)
    if found is None:
        return "no idempotency_key, event_id, version or op"
    refused = fault.reject_every is not None and found.event_id % fault.reject_every == 0
    return "refused as planned" if refused else found


def _result(index: int, found: Taken | str) -> dict[str, Any]:
    error = found if isinstance(found, str) else None
    return {"index": index, "status": _REFUSED if error else 200, "error": error}


def main() -> None:
    """Serve until SIGTERM."""
    env = os.environ
    book = ReceiverBook(Path(env["RECEIVER_FOLDER"]) / "receiver.db")
    receiver = ExampleReceiver(book, env["RECEIVER_TOKEN"], env["RECEIVER_SIGNING_SECRET"])
    host, port = env["RECEIVER_HOST"], int(env["RECEIVER_PORT"])
    app = create_app(book, receiver)
    uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False, timeout_graceful_shutdown=2)


if __name__ == "__main__":
    main()
