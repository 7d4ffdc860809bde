"""Keys for ever, signatures as the specification has them, answers as the contract has them."""

import doctest
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement.sinks.external import answers, keys, lane, signing
from engagement.sinks.external.answers import Verdict, retry_after_seconds, verdict_of
from engagement.sinks.external.keys import batch_key, event_key
from engagement.sinks.external.signing import signature_headers

CONTRACT = {
    Verdict.DONE: [200, 201, 202, 204, 207],
    Verdict.REFUSED: [400, 413, 415, 422],
    Verdict.RETRY: [408, 409, 425, 429, 500, 502, 503, 504, 599],
    Verdict.PAUSE: [301, 302, 303, 307, 308, 401, 403, 404, 405, 410],
}


@pytest.mark.parametrize(("status", "verdict"), [(s, verdict) for verdict, all_of in CONTRACT.items() for s in all_of])
def test_every_status_of_the_contract_has_its_verdict(status: int, verdict: Verdict) -> None:
    assert verdict_of(status) is verdict


@pytest.mark.parametrize("status", [100, 402, 418, 431, 451, 600])
def test_a_status_that_the_contract_does_not_know_loses_nothing(status: int) -> None:
    assert verdict_of(status) is Verdict.PAUSE


def test_a_key_is_the_same_for_ever() -> None:
    """Written down: another release that gave others would make every receiver take everything for new."""
    assert event_key("engagement", 42, 33_749_928) == "eebfc58d-7742-56cb-ad9a-f3082f3ddd6a"
    assert batch_key(["a", "b"]) == "ad96b9eb-11a8-50db-a4c9-accb1ce03aca"


@given(st.lists(st.tuples(st.integers(1, 2**63 - 1), st.integers(0, 2**63 - 1)), unique=True, max_size=20))
def test_different_versions_have_different_keys(versions: list[tuple[int, int]]) -> None:
    made = [event_key("engagement", *each) for each in versions]
    assert len(set(made)) == len(versions)
    assert event_key("other", 1, 1) not in made


def test_a_batch_s_key_names_its_members_and_their_order() -> None:
    assert len({batch_key(["a", "b"]), batch_key(["b", "a"]), batch_key(["a"])}) == 3


def test_signatures_are_those_of_the_specification() -> None:
    """The example of the Standard Webhooks specification."""
    headers = signature_headers(
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_during_a_rotation_both_secrets_sign() -> None:
    old, new = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_" + "b" * 32
    both = signature_headers([new, old], "m", 1, b"{}")["webhook-signature"].split(" ")
    assert both == [signature_headers([each], "m", 1, b"{}")["webhook-signature"] for each in (new, old)]
    assert signature_headers([], "m", 1, b"{}") == {}


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("12", 12.0),
        ("86400", 300.0),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30.0),
        ("Wed, 31 Dec 2025 00:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
    ],
)
def test_retry_after_is_read_in_both_forms_and_capped(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header, datetime(2026, 1, 1, tzinfo=UTC)) == seconds


@pytest.mark.parametrize("module", [answers, keys, lane, signing], ids=lambda module: module.__name__)
def test_the_examples_in_docstrings_are_true(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]
