"""The API over real HTTP and a real Redis: what callers may rely on (contract section 10)."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from tests.contract.api_running import KNOWN, MARKUP, USER, Api, eventually, running_api, running_redis

from engagement.monitoring.live import MOST_PAGES

pytestmark = pytest.mark.redis
UNKNOWN_ID = "11111111-1111-4111-8111-111111111111"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """For tests that only ask."""
    with running_redis(tmp_path_factory.mktemp("redis")) as server, running_api(server) as running:
        yield running


def test_the_ranking_comes_best_first_with_ranks_and_titles_as_received(api: Api) -> None:
    answer = api.get("/top-content?limit=3").json()
    assert [(row["rank"], row["score"]) for row in answer["items"]] == [(1, 30.0), (2, 29.0), (3, 28.0)]
    assert (answer["limit"], answer["count"], answer["window_minutes"]) == (3, 3, 10)
    assert answer["items"][0]["title"] == MARKUP


def test_the_ranking_has_ten_rows_unless_asked_otherwise(api: Api) -> None:
    assert api.get("/top-content").json()["count"] == 10
    assert api.get("/top-content?limit=1000").json()["count"] == 30


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "1.5", "ten", "", "1e2", "99999999999999999999"])
def test_a_bad_limit_is_refused(api: Api, limit: str) -> None:
    assert api.get(f"/top-content?limit={limit}").status_code == 422


def test_stats_of_a_content_in_any_letter_case(api: Api) -> None:
    for content_id in (KNOWN, KNOWN.upper()):
        answer = api.get(f"/content/{content_id}/stats")
        assert (answer.status_code, answer.json()["unique_users"], answer.json()["score"]) == (200, 2, 4.8)
        assert (answer.json()["engagement_seconds"], answer.json()["avg_engagement_pct"]) == (1.5, None)


@pytest.mark.parametrize(
    ("content_id", "code"), [(UNKNOWN_ID, 404), ("7", 422), ("%00", 422), ("a%27%20or%201=1", 422), (KNOWN + "0", 422)]
)
def test_unknown_contents_and_bad_ids_are_told_apart(api: Api, content_id: str, code: int) -> None:
    assert api.get(f"/content/{content_id}/stats").status_code == code


def test_health_names_every_component_with_its_state(api: Api) -> None:
    answer = api.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "healthy")
    components = answer.json()["components"]
    assert set(components) == {"redis", "query:redis"}
    for part in components.values():
        assert {"status", "latency_ms", "reason", "since", "embedded", "critical", "details"} <= set(part)
    assert (components["redis"]["embedded"], components["query:redis"]["embedded"]) == (True, False)
    assert components["query:redis"]["details"]["batch_id"] == 3


@pytest.mark.parametrize("path", ["/", "/health"])
def test_a_probe_may_ask_for_the_head_alone(api: Api, path: str) -> None:
    answer = requests.head(api.url + path, timeout=10)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == api.get(path).headers["content-type"]


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("localhost", 200),
        ("LOCALHOST:8080", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8080", 200),
        ("[::1]", 200),
        ("evil.example", 400),
        ("evil.example:8080", 400),
        ("127.0.0.1.evil.example", 400),
        ("localhost:8080:1", 400),
        ("192.168.1.2", 400),
    ],
)
def test_on_the_loopback_only_its_own_names_are_answered(api: Api, host: str, code: int) -> None:
    answer = requests.get(api.url + "/top-content", headers={"Host": host}, timeout=10)
    assert answer.status_code == code
    assert "items" in answer.json() or code != 200
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_metrics_in_both_forms_agree_about_rows(api: Api) -> None:
    shown = api.get("/metrics").json()
    assert shown["queries"]["redis"]["rows"]["dead_letters"] == {"E_JSON": 1}
    text = api.get("/metrics/prometheus")
    assert text.headers["content-type"].startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(text.text)}
    assert families["engagement_read_rows"].samples[0].value == 10
    assert families["engagement_conservation_difference_rows"].samples[0].value == 0
    assert set(shown["metrics"]) == set(families)


def test_the_newest_events_come_newest_first_and_do_not_say_who_it_was(api: Api) -> None:
    answer = api.get(f"/content/{KNOWN}/events?count=2")
    assert [(one["event_id"], one["event_type"]) for one in answer.json()["items"]] == [(3, "play"), (2, "play")]
    assert USER not in answer.text
    assert api.get(f"/content/{UNKNOWN_ID}/events").json()["items"] == []
    assert api.get(f"/content/{KNOWN}/events?count=201").status_code == 422


def test_the_page_is_told_everything_once_a_second(api: Api) -> None:
    began, told = time.monotonic(), []
    with requests.get(api.url + "/live?limit=3", stream=True, timeout=10) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith(b"data: "):
                told.append(json.loads(line.removeprefix(b"data: ")))
            if len(told) == 3:
                break
    assert 1.0 < time.monotonic() - began < 8.0
    assert [row["score"] for row in told[0]["top"]["items"]] == [30.0, 29.0, 28.0]
    assert told[0]["health"]["status"] == "healthy"
    assert (told[0]["queries"][0]["sink"], told[0]["queries"][0]["promise_seconds"]) == ("redis", 5.0)
    assert told[0]["generated_at"] < told[2]["generated_at"]


def test_only_so_many_pages_are_served_and_a_place_is_free_again_when_one_goes(api: Api) -> None:
    def status() -> int:
        with requests.get(api.url + "/live", stream=True, timeout=10) as answer:
            return answer.status_code

    with ExitStack() as pages:
        lines = []
        for _ in range(MOST_PAGES):
            answer = pages.enter_context(requests.get(api.url + "/live", stream=True, timeout=10))
            lines.append(answer.iter_lines())
            next(lines[-1])
        assert status() == 503
        assert api.get("/health").status_code == 200
    eventually(lambda: status() == 200)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on PATH (Debian: apt install prometheus)")
def test_promtool_accepts_a_scrape(api: Api) -> None:
    text = api.get("/metrics/prometheus").content
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_responses_are_counted_by_code(api: Api) -> None:
    api.get("/top-content?limit=0")
    samples = api.get("/metrics").json()["metrics"]["engagement_api_responses"]["samples"]
    counted = {sample["labels"]["code"]: sample["value"] for sample in samples}
    assert counted["422"] >= 1
    assert counted["200"] >= 1


@pytest.mark.parametrize(
    "path", ["/", "/health", "/top-content?limit=0", "/nowhere", "/static/app.js", "/openapi.json"]
)
def test_every_answer_has_the_security_headers(api: Api, path: str) -> None:
    headers = api.get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] in ("no-store", "no-cache")
    assert "server" not in headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE"])
@pytest.mark.parametrize(
    "path", ["/", "/health", "/top-content", f"/content/{KNOWN}/stats", "/metrics", "/static/app.js"]
)
def test_only_reading_is_allowed(api: Api, method: str, path: str) -> None:
    assert requests.request(method, api.url + path, timeout=10).status_code == 405


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/static/../api.py", "/static/%2e%2e/api.py", "/static/"])
def test_nothing_else_is_served(api: Api, path: str) -> None:
    assert api.get(path).status_code == 404


def test_openapi_describes_every_address_for_programs(api: Api) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    contents = {"/top-content", "/content/{content_id}/stats", "/content/{content_id}/events"}
    assert set(paths) == {*contents, "/health", "/live", "/metrics", "/metrics/prometheus"}


def test_the_page_loads_nothing_from_elsewhere_and_has_no_inline_code(api: Api) -> None:
    page = api.get("/").text
    for path in ("/static/app.css", "/static/app.js", "/static/icon.svg"):
        assert path in page
        assert api.get(path).status_code == 200
    assert "http" not in page.replace("http-equiv", "")
    assert " style=" not in page
    assert " on" + "click=" not in page
    assert "innerHTML" not in api.get("/static/app.js").text
