"""The answer table against a real local HTTP server, plain and with TLS; and what may never happen on the way."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.arrow import changes
from tests.builders import CONTENT_ID, USER_ID, Message, created
from tests.contract.scripted import Authority, Reply, Scripted, full_backlog, serving

from engagement.sinks.external.answers import Trouble, Verdict
from engagement.sinks.external.caller import MOST_ANSWER_BYTES, Caller
from engagement.sinks.external.connections import AddressError, Guard, check_address
from engagement.sinks.external.deliveries import deliveries_table
from engagement.sinks.external.keys import event_key
from engagement.sinks.external.options import ExternalOptions
from engagement.sinks.external.outcomes import SCHEMA, Part, from_rows
from engagement.sinks.external.task import SendPlan, send_partitions

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module", params=["http", "https"])
def server(request: pytest.FixtureRequest, authority: Authority) -> Iterator[Scripted]:
    with serving(authority if request.param == "https" else None) as running:
        yield running


@pytest.fixture
def options(server: Scripted, authority: Authority) -> ExternalOptions:
    server.reset()
    return ExternalOptions(
        server.url, token="t0ken", signing_secrets=(SECRET,), headers=(("X-Tenant", "radio"),), lanes=2,
        timeout_seconds=1.0, ca_file=str(authority.file),
    )  # fmt: skip


ANSWERS = [
    *((Reply(status), Verdict.DONE) for status in (200, 202, 204)),
    *((Reply(status), Verdict.REFUSED) for status in (400, 413, 415, 422)),
    *((Reply(status), Verdict.RETRY) for status in (408, 409, 425, 429, 500, 502, 503, 504)),
    *((Reply(status), Verdict.PAUSE) for status in (401, 403, 404, 405, 410)),
    *((Reply(status, {"Location": "http://127.0.0.1:1/"}), Verdict.PAUSE) for status in (301, 302, 307, 308)),
    (Reply(hang_up=True), Verdict.RETRY),
    (Reply(hold_seconds=5.0), Verdict.RETRY),
    (Reply(body=b'{"results": [', promised_bytes=100), Verdict.RETRY),
    (Reply(body=b"x" * (MOST_ANSWER_BYTES + 3)), Verdict.DONE),
]


@pytest.mark.parametrize(("reply", "verdict"), ANSWERS, ids=[f"{n}-{r.status}" for n, (r, _) in enumerate(ANSWERS)])
def test_every_answer_has_its_verdict(
    server: Scripted, options: ExternalOptions, reply: Reply, verdict: Verdict
) -> None:
    server.reset(otherwise=reply)
    answer = Caller(options).post("key", "{}")
    assert answer.verdict is verdict
    assert len(server.requests) == 1, "a redirect is not followed, and nothing is tried again behind our back"


def test_no_more_of_an_answer_is_read_than_64_kib_and_what_was_sent(server: Scripted, options: ExternalOptions) -> None:
    most = MOST_ANSWER_BYTES + 2
    server.reset(Reply(body=b"x" * most), Reply(body=b"x" * (most + 1)))
    caller = Caller(options)
    assert [len(caller.post("key", "{}").body or b"") for _ in range(2)] == [most, 0]


def test_a_receiver_that_nobody_runs_any_more_is_away(options: ExternalOptions) -> None:
    gone = Caller(replace(options, url="http://127.0.0.1:9/events")).post("key", "{}")
    assert (gone.trouble, gone.verdict) == (Trouble.CONNECTION, Verdict.RETRY)


_HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "reply",
    [
        Reply(drip=b"HTTP/1.1 100 Continue\r\n\r\n"),
        Reply(drip=b" "),
        Reply(drip=b"X: y\r\n", before=_HEAD),
        Reply(drip=b"1\r\n \r\n", before=_HEAD + b"Transfer-Encoding: chunked\r\n\r\n"),
    ],
    ids=["100 Continue", "status", "headers", "body"],
)
def test_an_answer_that_comes_drop_by_drop_ends_with_the_limit(
    server: Scripted, options: ExternalOptions, reply: Reply
) -> None:
    server.reset(reply)
    caller = Caller(options)
    began = time.monotonic()
    assert caller.post("key", "{}").trouble is Trouble.TIMEOUT
    assert time.monotonic() - began < options.timeout_seconds + 1.0
    assert caller.post("key", "{}").status == 200


@pytest.mark.parametrize("addresses", [1, 3])
def test_a_host_that_swallows_connections_ends_with_the_limit(
    options: ExternalOptions, monkeypatch: pytest.MonkeyPatch, addresses: int
) -> None:
    with full_backlog() as port:
        end = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [end] * addresses)
        began = time.monotonic()
        answer = Caller(replace(options, url=f"http://127.0.0.1:{port}/events")).post("key", "{}")
        assert answer.trouble is Trouble.TIMEOUT
        assert time.monotonic() - began < options.timeout_seconds + 1.0


@pytest.mark.parametrize(("share", "lookups"), [(0.7, 2), (1.2, 1)], ids=["slow", "slower than the limit"])
def test_a_name_that_nobody_resolves_ends_with_the_limit(
    options: ExternalOptions, monkeypatch: pytest.MonkeyPatch, share: float, lookups: int
) -> None:
    asked: list[object] = []
    seconds = share * options.timeout_seconds

    def give_up(host: object, *_: object, **__: object) -> None:
        asked.append(host)
        threading.Event().wait(seconds)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", give_up)
    began = time.monotonic()
    answer = Caller(replace(options, url=options.url.replace("127.0.0.1", "partner.example"))).post("key", "{}")
    assert time.monotonic() - began < options.timeout_seconds + seconds + 0.5
    assert (answer.trouble, asked) == (Trouble.TIMEOUT, ["partner.example"] * lookups)


def test_a_thread_that_was_left_behind_gets_no_time_from_the_next() -> None:
    guard = Guard(allow_private=False)
    guard.begin(0.0)
    with ThreadPoolExecutor(1) as next_one:
        next_one.submit(guard.begin, 60.0).result()
        assert next_one.submit(guard.left).result() > 0
    assert guard.left() <= 0


def test_a_request_carries_what_the_contract_says(server: Scripted, options: ExternalOptions) -> None:
    Caller(options, clock=lambda: 1_614_265_330.9).post("msg_p5jXN8AQM9LWM0D4loKWxJek", '{"test": 2432232314}')
    (request,) = server.requests
    told = {name.lower(): value for name, value in request.headers.items()}
    assert told["authorization"] == "Bearer t0ken"
    assert told["idempotency-key"] == told["webhook-id"] == "msg_p5jXN8AQM9LWM0D4loKWxJek"
    assert told["webhook-timestamp"] == "1614265330"
    assert told["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert (told["x-tenant"], told["content-type"]) == ("radio", "application/json")


def test_connections_are_kept_and_proxies_and_cookies_are_not(
    server: Scripted, options: ExternalOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server.reset(otherwise=Reply(headers={"Set-Cookie": "a=b"}))
    caller = Caller(options)
    assert [caller.post("key", "{}").status for _ in range(5)] == [200] * 5
    assert server.connections == 1
    assert not any("Cookie" in request.headers for request in server.requests)


@pytest.mark.parametrize(
    ("certificate_host", "trusted"),
    [("127.0.0.1", False), ("localhost", True)],
    ids=["unknown authority", "other host"],
)
def test_a_certificate_that_proves_nothing_gets_no_byte(
    authority: Authority, options: ExternalOptions, certificate_host: str, trusted: bool
) -> None:
    with serving(authority, certificate_host) as impostor:
        asking = replace(options, url=impostor.url, ca_file=options.ca_file if trusted else "")
        answer = Caller(asking).post("key", "{}")
        assert (answer.trouble, answer.verdict) == (Trouble.TLS, Verdict.PAUSE)
        assert impostor.requests == []


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "017700000001", "[::ffff:127.0.0.1]"])
def test_loopback_by_another_name_gets_no_byte(server: Scripted, options: ExternalOptions, host: str) -> None:
    answer = Caller(replace(options, url=server.url.replace("127.0.0.1", host))).post("key", "{}")
    assert answer.verdict is not Verdict.DONE
    assert answer.trouble in (Trouble.ADDRESS, Trouble.CONNECTION)
    assert server.requests == []


@pytest.mark.parametrize(
    ("host", "address", "allow_private", "allowed"),
    [
        ("partner.example", "93.184.216.34", False, True),
        ("partner.example", "2606:2800:220:1::1", False, True),
        ("127.0.0.1", "127.0.0.1", False, True),
        ("localhost", "::1", False, True),
        ("rebound.example", "127.0.0.1", True, False),
        ("rebound.example", "::ffff:127.0.0.1", True, False),
        ("partner.example", "10.1.2.3", False, False),
        ("partner.example", "10.1.2.3", True, True),
        ("partner.example", "192.168.0.1", False, False),
        ("partner.example", "fd00::1", False, False),
        ("partner.example", "fd00::1", True, True),
        ("partner.example", "fd00:ec2::254", True, False),
        ("partner.example", "169.254.169.254", True, False),
        ("partner.example", "100.100.100.200", True, False),
        ("partner.example", "192.0.0.192", True, False),
        ("partner.example", "168.63.129.16", False, False),
        ("partner.example", "168.63.129.16", True, False),
        ("partner.example", "::ffff:168.63.129.16", True, False),
        ("partner.example", "100.100.100.201", True, True),
        ("partner.example", "::ffff:169.254.169.254", True, False),
        ("partner.example", "fe80::1%eth0", True, False),
        ("partner.example", "0.0.0.0", True, False),  # noqa: S104 an address that is refused
        ("partner.example", "224.0.0.1", True, False),
        ("partner.example", "100.64.0.1", False, False),
    ],
)
def test_addresses_that_may_be_spoken_to(host: str, address: str, allow_private: bool, allowed: bool) -> None:
    if allowed:
        check_address(host, address, allow_private=allow_private)
    else:
        with pytest.raises(AddressError):
            check_address(host, address, allow_private=allow_private)


def inserted(count: int) -> pa.RecordBatch:
    return changes(*(Message(created(id=n + 1).value, offset=n) for n in range(count)))


def deliver(options: ExternalOptions, folder: Path, count: int = 8) -> tuple[dict[int, str], Part]:
    """Send some inserts as a Spark task does; event id -> status, and the summary."""
    table = deliveries_table(str(folder))
    plan = SendPlan(table.path, "events", "id", "batch", {0: (0, count)}, {}, budget_seconds=8.0)
    (batch,) = send_partitions([inserted(count)], plan=plan, options=options)
    assert batch.schema == SCHEMA
    (part,) = from_rows(batch.to_pylist())
    rows = [row for file in part.files for row in pq.read_table(f"{table.path}/{file['path']}").to_pylist()]
    return {row["event_id"]: f"{row['status']} {row['http_status']}" for row in rows}, part


def test_an_event_goes_out_as_the_contract_has_it(server: Scripted, options: ExternalOptions, tmp_path: Path) -> None:
    deliver(replace(options, mode="single"), tmp_path, count=1)
    (request,) = server.requests
    assert request.document == {
        "event_id": 1, "content_id": CONTENT_ID, "user_id": USER_ID, "event_type": "play",
        "timestamp": "2026-11-23T14:59:58.123456Z",
        "metadata": {
            "title": "A", "type": "podcast", "device": "ios", "seconds": 30.0, "pct": 50.0, "raw_payload": {"a": 1},
        },
        "op": "c", "version": 33_749_928, "idempotency_key": event_key("engagement", 1, 33_749_928),
    }  # fmt: skip
    assert request.headers["Idempotency-Key"] == request.document["idempotency_key"]


def test_a_burst_of_500_is_outlasted(server: Scripted, options: ExternalOptions, tmp_path: Path) -> None:
    server.reset(*[Reply(500)] * 3)
    statuses, part = deliver(options, tmp_path)
    assert statuses == dict.fromkeys(range(1, 9), "delivered 200")
    assert (part.delivered, part.left, part.failures) == (8, 0, 3)
    assert len({request.headers["Idempotency-Key"] for request in server.requests}) == 2


def test_one_bad_event_is_refused_and_the_rest_are_through(
    server: Scripted, options: ExternalOptions, tmp_path: Path
) -> None:
    bad = event_key("engagement", 5, 33_749_928).encode()

    def take(request: object) -> Reply:
        server.requests.append(request)  # type: ignore[arg-type]
        return Reply(413 if bad in request.body else 200)  # type: ignore[attr-defined]

    server.take = take  # type: ignore[method-assign]
    try:
        statuses, part = deliver(options, tmp_path)
    finally:
        del server.take  # type: ignore[attr-defined]
    assert statuses == {**dict.fromkeys(range(1, 9), "delivered 200"), 5: "rejected 413"}
    assert (part.delivered, len(part.rejected), part.left) == (7, 1, 0)


def test_items_are_judged_one_by_one(server: Scripted, options: ExternalOptions, tmp_path: Path) -> None:
    results = [{"index": 0, "status": 200}, {"index": 1, "status": 422, "error": "x"}, {"index": 2, "status": 503}]
    server.reset(Reply(body=json.dumps({"results": results}).encode()))
    statuses, _ = deliver(replace(options, lanes=1), tmp_path, count=3)
    assert statuses == {1: "delivered 200", 2: "rejected 422", 3: "delivered 200"}
    assert [request.document.get("event_count") for request in server.requests] == [3, None]


@pytest.mark.parametrize(
    ("results", "ends", "requests"),
    [
        ([], "delivered 200", [3]),
        ([{"index": 1, "status": 422}], "rejected 422", [3, None, None]),
        ([{"index": 1, "status": "failed"}], "delivered 200", [3, None, None, None]),
    ],
    ids=["of nothing", "of failures alone", "that nobody can read"],
)
def test_a_receiver_whose_every_batch_has_results_of_its_own_way_is_finished_with(
    server: Scripted,
    options: ExternalOptions,
    tmp_path: Path,
    results: list[object],
    ends: str,
    requests: list[int | None],
) -> None:
    server.reset(otherwise=Reply(body=json.dumps({"results": results}).encode()))
    statuses, part = deliver(replace(options, lanes=1), tmp_path, count=3)
    assert statuses == {1: "delivered 200", 2: ends, 3: "delivered 200"}
    assert [request.document.get("event_count") for request in server.requests] == requests
    assert (part.left, part.halt) == (0, None)


def test_results_for_thousands_of_events_are_read_to_their_end(
    server: Scripted, options: ExternalOptions, tmp_path: Path
) -> None:
    results = [{"index": index, "status": 200, "error": None} for index in range(2_000)]
    server.reset(Reply(body=json.dumps({"results": results}).encode()), otherwise=Reply(500))
    statuses, _ = deliver(replace(options, lanes=1, batch_size=10_000), tmp_path, count=2_000)
    assert statuses == dict.fromkeys(range(1, 2_001), "delivered 200")
    assert [request.document["event_count"] for request in server.requests] == [2_000]


@pytest.mark.parametrize("reply", [Reply(401), Reply(302, {"Location": "http://127.0.0.1:1/"}), Reply(404)])
def test_what_pauses_loses_nothing_and_floods_nobody(
    server: Scripted, options: ExternalOptions, reply: Reply, tmp_path: Path
) -> None:
    server.reset(otherwise=reply)
    statuses, part = deliver(options, tmp_path, count=500)
    assert (statuses, part.left, part.rejected) == ({}, 500, [])
    assert part.halt is not None
    assert part.halt.pause
    assert len(server.requests) <= options.lanes


def test_a_long_retry_after_is_left_to_the_driver(server: Scripted, options: ExternalOptions, tmp_path: Path) -> None:
    server.reset(otherwise=Reply(429, {"Retry-After": "30"}))
    _, part = deliver(options, tmp_path)
    assert part.halt is not None
    assert (part.halt.pause, part.halt.retry_after_seconds, part.left) == (False, 30.0, 8)
    assert len(server.requests) <= options.lanes


def test_a_stall_ends_with_the_timeout_and_the_same_key_comes_again(
    server: Scripted, options: ExternalOptions, tmp_path: Path
) -> None:
    """The receiver took it all the same, and answers 200 too late: its key makes the second time harmless."""
    server.reset(Reply(hold_seconds=30.0))
    statuses, _ = deliver(replace(options, lanes=1), tmp_path)
    assert statuses == dict.fromkeys(range(1, 9), "delivered 200")
    keys = [request.headers["Idempotency-Key"] for request in server.requests]
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert server.requests[0].body == server.requests[1].body


def test_no_payload_and_no_token_is_logged(
    server: Scripted, options: ExternalOptions, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level("DEBUG", logger="engagement")
    server.reset(Reply(500), Reply(401, body=b"canary-answer"))
    deliver(options, tmp_path)
    for canary in ("t0ken", CONTENT_ID, USER_ID, "canary-answer", SECRET):
        assert canary not in caplog.text
