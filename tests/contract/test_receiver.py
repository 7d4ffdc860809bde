"""The example receiver, as a partner's system would answer: keys, tokens, signatures, planned faults, a read API."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from pydantic import SecretStr
from tests.contract.receiving import Receiving, start_receiver

from engagement.benchmark.receiver import Overtaken, Partner
from engagement.settings import ExternalSettings


@pytest.fixture(scope="module")
def receiving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiving]:
    with start_receiver(tmp_path_factory.mktemp("receiver home")) as running:
        yield running


def event(number: int, **changes: object) -> dict[str, object]:
    return {"idempotency_key": f"k{number}", "event_id": number, "version": 7, "op": "c", **changes}


def post(receiving: Receiving, document: object, **headers: str) -> requests.Response:
    """Post as the contract says; `headers` replace what would be sent."""
    body = json.dumps(document).encode()
    at = headers.get("webhook-timestamp", str(int(time.time())))
    key = base64.b64decode(receiving.env["EXTERNAL_SYSTEM_SIGNING_SECRET"].removeprefix("whsec_"))
    mac = base64.b64encode(hmac.new(key, f"m.{at}.".encode() + body, hashlib.sha256).digest()).decode()
    own = {
        "authorization": f"Bearer {receiving.env['EXTERNAL_SYSTEM_TOKEN']}",
        "webhook-id": "m", "webhook-timestamp": at, "webhook-signature": f"v1,{mac}",
    }  # fmt: skip
    return requests.post(receiving.url, body, headers={**own, **headers}, timeout=5)


def results(answer: requests.Response) -> list[Any]:
    return [item["status"] for item in answer.json()["results"]]


def test_a_batch_a_single_event_and_a_heartbeat_are_taken(receiving: Receiving) -> None:
    before = receiving.stats()
    assert (
        results(post(receiving, {"events": [event(101), event(102)], "batch_id": "b", "event_count": 2})) == [200] * 2
    )
    assert post(receiving, event(103)).status_code == 200
    assert post(receiving, {"type": "heartbeat", "source": "engagement", "timestamp": "now"}).ok
    after = receiving.stats()
    assert after["delivered"] - before["delivered"] == 3
    assert after["answers"]["heartbeat"] - before["answers"].get("heartbeat", 0) == 1


def test_a_key_that_comes_again_has_no_second_effect_and_is_counted(receiving: Receiving) -> None:
    post(receiving, event(110))
    before = receiving.stats()
    assert post(receiving, event(110)).ok
    assert post(receiving, event(110, op="u")).ok
    after = receiving.stats()
    assert after["delivered"] == before["delivered"]
    assert after["repeats"] - before["repeats"] == 2
    assert after["conflicts"] - before["conflicts"] == 1
    assert [(row["version"], row["received"]) for row in receiving.get("events/110")] == [(7, 3)]


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer wrong"},
        {"authorization": ""},
        {"webhook-signature": "v1,d3Jvbmc="},
        {"webhook-id": "another"},
        {"webhook-timestamp": str(int(time.time()) - 3600)},
    ],
)
def test_a_wrong_token_or_signature_is_refused(receiving: Receiving, headers: dict[str, str]) -> None:
    before = receiving.stats()["delivered"]
    assert post(receiving, event(120), **headers).status_code == 401
    assert receiving.stats()["delivered"] == before


def test_what_is_no_event_is_refused_alone(receiving: Receiving) -> None:
    assert results(post(receiving, {"events": [event(130), {"event_id": 1}]})) == [200, 422]
    assert post(receiving, {"event_id": 1}).status_code == 422


def test_a_plan_of_faults_is_worked_off_and_then_over(receiving: Receiving) -> None:
    receiving.fail({"status": 429, "retry_after": "3", "count": 2}, {"reject_every": 2, "count": 1}, {"truncate": True})
    assert [post(receiving, event(140)).headers.get("retry-after") for _ in range(2)] == ["3", "3"]
    assert results(post(receiving, {"events": [event(142), event(143)]})) == [422, 200]
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        post(receiving, event(144))
    receiving.heal()
    assert post(receiving, event(145)).ok
    assert receiving.get("events/144"), "it was taken before its answer broke off"


def test_a_plan_needs_the_token(receiving: Receiving) -> None:
    assert requests.delete(f"{receiving.address}/faults", timeout=5).status_code == 401


def test_what_was_answered_survives_kill_9(receiving: Receiving) -> None:
    post(receiving, event(150))
    receiving.kill_and_restart()
    assert receiving.get("events/150")[0]["received"] == 1
    assert receiving.get("versions?after=0&limit=1")[0]["number"] == 1


def test_a_benchmark_sees_which_versions_came_out_of_order_and_can_let_it_fail(receiving: Receiving) -> None:
    token = SecretStr(receiving.env["EXTERNAL_SYSTEM_TOKEN"])
    partner = Partner(ExternalSettings(url=receiving.url, token=token))
    several, overtaken = partner.order()
    for version in (1, 3, 2):
        assert post(receiving, event(120, idempotency_key=f"k120/{version}", version=version)).ok
    assert partner.order() == (several + 1, [*overtaken, Overtaken(120, 2, 3)])
    partner.fail({"status": 503})
    assert post(receiving, event(121)).status_code == 503
    partner.heal()
    assert post(receiving, event(121)).ok
