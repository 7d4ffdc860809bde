"""What the tests of the page look at: an API over a Redis with 5,000 contents and four sinks, and a Chromium."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from redis import Redis
from tests.contract.api_running import Api

from engagement.meanwhile import meanwhile
from engagement.monitoring.board import BatchRecord, StatusBoard
from engagement.settings import RedisSettings
from engagement.sinks.redis.keys import content_stats, recent_events
from engagement.sinks.redis.meta import MetaWriter

CHROMIUM = next((path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH (Debian: apt install chromium)")
CONTENTS = 5_000
TITLES = (
    "Signals from the Deep Field", "The Quiet Algorithm", "أصوات من المدينة", "Weekend Reading, 47", "Stone & Salt",
    "How Bridges Sing", "نشرة الصباح", "Ten Minutes of Light", "A Short History of Maps", "Borders of Taste",
)  # fmt: skip
KINDS = ("podcast", "newsletter", "video")


def content_id(number: int) -> str:
    """Of the content with `number` points."""
    return str(UUID(int=number))


def fill_board(client: Redis) -> None:
    """Five thousand contents; the best have statistics and events."""
    client.zadd(RedisSettings().top_key, {content_id(n): n / 7 for n in range(1, CONTENTS + 1)})
    contents = [
        {
            "content_id": content_id(n), "slug": f"c{n}", "title": f"{TITLES[n % len(TITLES)]} {n}",
            "content_type": KINDS[n % 3], "length_seconds": 600, "publish_ts": None,
        }
        for n in range(1, CONTENTS + 1)
    ]  # fmt: skip
    MetaWriter().write(client, pa.Table.from_pylist(contents))
    stats: dict[Any, Any] = {
        "events": "1200", "play": "700", "pause": "200", "finish": "250", "click": "50",
        "engagement_seconds": "81250.5", "avg_engagement_pct": "63.18", "unique_users": "842", "score": "714.3",
        "last_event_ts": "2026-01-01T00:00:01.000Z", "window_start": "2026-01-01T00:00:00.000Z",
        "window_end": "2026-01-01T00:10:00.000Z",
    }  # fmt: skip
    client.hset(content_stats(content_id(CONTENTS)), mapping=stats)
    for number, kind in enumerate(("play", "pause", "play", "finish", "click"), start=1):
        event: dict[Any, Any] = {
            "event_id": number, "event_type": kind, "op": "c", "event_ts": f"2026-01-01T00:00:0{number}Z",
            "engagement_pct": 20 * number, "device": "<b>phone</b>", "user_id": "7d3f0c9e-5a51-4f5e-9b9e-2f1f6f1f0d11",
        }  # fmt: skip
        client.xadd(recent_events(content_id(CONTENTS)), event, id=f"{number}-0")


def boards() -> list[StatusBoard]:
    """Four sinks; the external system is away."""
    made = []
    for sink, seconds in (("warehouse", 7.4), ("external", 1.9), ("lake", 21.0)):
        board = StatusBoard(sink)
        board.record_batch(BatchRecord(3, 48_210, delivered=48_207, dead_letters={"E_JSON": 2, "E_TS": 1}))
        board.record_freshness(seconds, 100)
        board.record_lag({0: 40, 1: 12}, {0: seconds / 2, 1: 0.5})
        made.append(board)
    made[1].set_state("waiting", "the receiver does not answer; trying again")
    return made


@contextmanager
def other_sinks(client: Redis) -> Iterator[None]:
    """Jobs that write the status of the other sinks, and numbers that move."""
    writers = boards()

    def write(stop: threading.Event) -> None:
        while not stop.wait(0.3):
            for board in writers:
                board.flush(client)

    with meanwhile(write):
        yield


@contextmanager
def chromium() -> Iterator[Browser]:
    """The machine's own browser, headless."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        try:
            yield browser
        finally:
            browser.close()


def opened(browser: Browser, api: Api, query: str = "", **options: Any) -> Page:  # noqa: ANN401 - Playwright's options
    """A page that has shown its first message; whatever it says in its console fails the test."""
    page = browser.new_context(**options).new_page()
    page.on("pageerror", lambda error: pytest.fail(f"error on the page: {error}"))
    page.goto(api.url + "/" + query)
    page.wait_for_selector("#rows tr")
    return page
