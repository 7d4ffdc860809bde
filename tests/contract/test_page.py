"""The page in a real browser: what it shows is what the API says, in two languages, by keyboard, and it heals."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.contract.api_running import Api, running_api, running_redis
from tests.contract.page_support import CONTENTS, chromium, content_id, fill_board, needs_chromium, opened, other_sinks

from engagement.sinks.redis.keys import content_stats

pytestmark = [pytest.mark.redis, needs_chromium]
WIDTHS = (320, 390, 768, 1360, 2560)
LATE_MS = 20_000


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server, running_api(server) as running:
        fill_board(running.client)
        with other_sinks(running.client):
            yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def page(browser: Browser, api: Api) -> Iterator[Page]:
    """The page as it opens."""
    shown = opened(browser, api, viewport={"width": 1360, "height": 1000})
    yield shown
    shown.context.close()


def texts(page: Page, selector: str) -> list[str]:
    return page.locator(selector).all_inner_texts()


def test_the_numbers_are_those_of_the_api(page: Page, api: Api) -> None:
    rows = api.get("/top-content?limit=20").json()["items"]
    expect(page.locator("#rows .open")).to_have_text([row["title"] for row in rows])
    assert [float(text.replace(",", "")) for text in texts(page, "#rows td.number")] == pytest.approx(
        [row["score"] for row in rows], abs=0.051
    )
    queries = api.get("/metrics").json()["queries"]
    expect(page.locator("#delivered")).to_have_text(str(queries["redis"]["rows"]["delivered"]))
    expect(page.locator("#dead dt")).to_have_text(["E_JSON", "E_TS"])
    expect(page.locator("#dead dd")).to_have_text(["2", "1"])


def test_each_sink_shows_its_freshness_against_its_promise(page: Page, api: Api) -> None:
    expect(page.locator(".sink")).to_have_count(4)
    live = {query["sink"]: query for query in api.get("/metrics").json()["queries"].values()}
    warehouse = page.locator(".sink").nth(1)
    p99 = live["warehouse"]["freshness"]["recent"]["p99_seconds"]
    expect(warehouse.locator(".figure")).to_have_text(f"{p99:.1f}\u00a0s")
    expect(warehouse.locator(".what")).to_contain_text("promised 30\u00a0s")
    expect(page.locator(".sink.degraded")).to_have_count(1)  # the external system waits


def test_what_is_wrong_comes_first_with_its_reason(page: Page) -> None:
    expect(page.locator("#overall-text")).to_have_text("Degraded")
    first = page.locator("#components li").first
    expect(first).to_contain_text("External system")
    expect(first.locator(".reason")).to_have_text("the receiver does not answer; trying again")


def test_more_rows_of_five_thousand_contents(page: Page) -> None:
    page.locator("#limit").select_option("100")
    expect(page.locator("#rows tr")).to_have_count(100)
    ranks = [int(text) for text in texts(page, "#rows .rank")]
    assert ranks == list(range(1, 101))


def test_a_content_that_climbs_is_seen_to_move(page: Page, api: Api) -> None:
    page.wait_for_timeout(1100)  # the movement is against a ranking that was shown before
    climber = content_id(CONTENTS - 9)
    api.client.zincrby("top_content_last_10min", 1000, climber)
    try:
        expect(page.locator("#rows tr").first.locator(".move")).to_contain_text("▲9")
        expect(page.locator("#rows tr").first.locator(".move .hidden")).to_have_text("up 9")
    finally:
        api.client.zincrby("top_content_last_10min", -1000, climber)


def test_a_content_is_opened_and_closed_by_keyboard(page: Page, api: Api) -> None:
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    best = page.locator(".open", has_text=f" {CONTENTS}")
    best.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#detail")).to_be_visible()
    stats = api.get(f"/content/{content_id(CONTENTS)}/stats").json()
    expect(page.locator("#detail-stats")).to_contain_text(f"{stats['events']:,}")
    expect(page.locator("#detail-events tr")).to_have_count(5)
    # As received, and as text: markup in a device is no markup of the page.
    expect(page.locator("#detail-events tr").first).to_contain_text("<b>phone</b>")
    assert "7d3f0c9e" not in page.content()
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).to_be_hidden()
    expect(best).to_be_focused()


def test_an_event_of_another_day_shows_its_date(page: Page) -> None:
    page.locator(".open", has_text=f" {CONTENTS}").click()
    expect(page.locator("#detail-events tr").first).to_contain_text("/2026, ")
    today, before = page.evaluate("import('/static/text.js').then((text) => [text.when(new Date()), text.when(0)])")
    assert re.fullmatch(r"\d\d:\d\d:\d\d", today)
    assert re.fullmatch(r"\d\d/\d\d/19(69|70), \d\d:\d\d:\d\d", before)


def test_the_focus_stays_on_a_row_that_moves(page: Page, api: Api) -> None:
    button = page.locator(".open", has_text=f" {CONTENTS - 4}")
    title = button.inner_text()
    button.focus()
    mover = content_id(CONTENTS - 4)
    api.client.zincrby("top_content_last_10min", 500, mover)
    try:
        expect(page.locator("#rows tr").first.locator(".open")).to_have_text(title)
        expect(page.locator(":focus")).to_have_text(title)
    finally:
        api.client.zincrby("top_content_last_10min", -500, mover)


def test_arabic_runs_from_right_to_left_and_is_remembered(page: Page) -> None:
    page.locator("#language").click()
    expect(page.locator("html")).to_have_attribute("dir", "rtl")
    expect(page.locator("html")).to_have_attribute("lang", "ar")
    expect(page.locator("h1")).to_have_text("التفاعل مباشرةً")
    rank, score = page.locator("thead .rank").bounding_box(), page.locator("thead .number").first.bounding_box()
    assert rank is not None
    assert score is not None
    assert rank["x"] > score["x"]
    page.reload()
    expect(page.locator("html")).to_have_attribute("dir", "rtl")
    left = page.evaluate(
        "[...document.querySelectorAll('[data-i18n]')].map(n => n.textContent).filter(t => /^[A-Z]/.test(t))"
    )
    assert left == []


@pytest.mark.parametrize("language", ["en", "ar"])
def test_it_fits_from_phone_to_wide(browser: Browser, api: Api, language: str) -> None:
    page = opened(browser, api, f"?lang={language}", viewport={"width": WIDTHS[0], "height": 900})
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser: Browser, api: Api, scheme: str) -> None:
    page = opened(browser, api, f"?theme={scheme}", viewport={"width": 1360, "height": 1000})
    poor = page.evaluate(CONTRAST)
    page.context.close()
    assert poor == []


def test_everything_has_a_name_for_those_who_listen(page: Page) -> None:
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, select, section, table, a')]"
        ".filter(n => !n.closest('dialog') && !(n.innerText || n.ariaLabel || n.labels?.length || "
        "n.getAttribute('aria-labelledby'))).map(n => n.outerHTML)"
    )
    assert nameless == []
    assert page.locator("h1").count() == 1
    assert page.locator("#overall").get_attribute("role") == "status"
    assert page.locator("#notice").get_attribute("role") == "alert"


def test_nothing_comes_from_elsewhere_and_the_policy_is_kept(browser: Browser, api: Api) -> None:
    context = browser.new_context()
    page, asked, said = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(api.url + "/")
    page.wait_for_selector("#rows tr")
    page.locator(".open", has_text=f" {CONTENTS}").click()
    page.wait_for_selector("#detail-events tr")
    context.close()
    assert [url for url in asked if not url.startswith(api.url)] == []
    assert said == []


def test_it_says_so_when_redis_dies_and_heals(browser: Browser, tmp_path: Path) -> None:
    with running_redis(tmp_path) as server, running_api(server) as api:
        page = opened(browser, api)
        server.kill()
        expect(page.locator("#overall-text")).to_have_text("Unhealthy", timeout=10_000)
        expect(page.locator("#notice")).to_contain_text("ranking cannot be read", timeout=10_000)
        expect(page.locator("#components li").first).to_contain_text("connection refused")
        server.start()
        expect(page.locator("#overall-text")).to_have_text("Healthy", timeout=LATE_MS)
        expect(page.locator("#notice")).to_be_hidden(timeout=LATE_MS)
        page.context.close()


def test_the_last_figures_of_a_content_stay_while_redis_is_away(browser: Browser, tmp_path: Path) -> None:
    with running_redis(tmp_path) as server, running_api(server) as api:
        fill_board(api.client)
        page = opened(browser, api)
        page.locator(".open", has_text=f" {CONTENTS}").click()
        expect(page.locator("#detail-events tr")).to_have_count(5)
        server.kill()
        for _ in range(2):  # when a second one is asked for, what came of the first is shown
            with page.expect_response(lambda answer: answer.url.endswith("/stats") and answer.status == 503):
                pass
        expect(page.locator("#detail-events tr")).to_have_count(5)
        expect(page.locator("#detail-stats")).to_contain_text("1,200")
        expect(page.locator("#detail-none")).to_be_hidden()
        page.context.close()


def test_it_heals_after_the_api_has_been_started_again(browser: Browser, tmp_path: Path) -> None:
    with running_redis(tmp_path) as server:
        with running_api(server) as api:
            page = opened(browser, api)
            port = int(api.url.rpartition(":")[2])
        expect(page.locator("#notice")).to_contain_text("API does not answer", timeout=LATE_MS)
        with running_api(server, port):
            expect(page.locator("#notice")).to_be_hidden(timeout=LATE_MS)
            expect(page.locator("#overall-text")).to_have_text("Healthy", timeout=LATE_MS)
            page.context.close()


def test_a_content_without_events_in_the_window_says_so(page: Page, api: Api) -> None:
    assert not api.client.exists(content_stats(content_id(CONTENTS - 1)))
    page.locator(".open", has_text=f" {CONTENTS - 1}").click()
    expect(page.locator("#detail-none")).to_be_visible()


CONTRAST = """
(() => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    pen.clearRect(0, 0, 1, 1); pen.fillStyle = color; pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data];
  };
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const color = rgba(getComputedStyle(at).backgroundColor);
      if (color[3] === 255) return color;
    }
    return [255, 255, 255, 255];
  };
  const light = (color) => {
    const [r, g, b] = color.map((c) => (c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  return [...document.querySelectorAll("body *")]
    .filter((node) => node.checkVisibility() && [...node.childNodes].some((c) => c.nodeType === 3 && c.data.trim()))
    .filter((node) => !node.closest(".hidden, .skip, svg, dialog"))
    .map((node) => {
      const pair = [light(rgba(getComputedStyle(node).color)), light(ground(node))].sort((a, b) => b - a);
      const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
      return [node.className || node.tagName, node.textContent.trim().slice(0, 20), ratio];
    })
    .filter(([, , ratio]) => ratio < 4.5);
})()
"""
