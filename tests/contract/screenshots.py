"""Takes the pictures in docs/images: `python -m tests.contract.screenshots`. Numbers made up, page and API real."""

import random
import tempfile
import threading
from pathlib import Path

from tests.contract.api_running import running_api, running_redis
from tests.contract.page_support import CONTENTS, chromium, content_id, fill_board, opened, other_sinks

from engagement.monitoring.board import BatchRecord, StatusBoard

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
WIDE = {"width": 1360, "height": 1000}
PICTURES = {
    "light": ("?theme=light", {"viewport": WIDE}),
    "dark": ("?theme=dark", {"viewport": WIDE}),
    "phone": ("?theme=light", {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2}),
    "arabic": ("?theme=light&lang=ar", {"viewport": WIDE}),
}
SEEN_SECONDS = 40.0
"""How long the pages are open before their pictures are taken: a curve and movements need a past."""


def main() -> None:
    """Open all pages, let numbers move, take the pictures."""
    chance, stop = random.Random(7), threading.Event()
    ranking = StatusBoard("redis")

    def flow() -> None:
        batch = 0
        while not stop.wait(0.25):
            batch += 1
            rows = chance.randint(200, 320)
            ranking.record_batch(BatchRecord(batch, rows, delivered=rows, duration_ms=90.0))
            ranking.record_freshness(chance.uniform(0.2, 0.5), rows)
            ranking.record_lag({0: chance.randint(0, 90)}, {0: 0.1})
            for _ in range(3):
                number = CONTENTS - int(chance.expovariate(0.15))
                api.client.zincrby("top_content_last_10min", chance.uniform(0.2, 2.5), content_id(max(1, number)))

    with (
        running_redis(Path(tempfile.mkdtemp())) as server,
        running_api(server, ranking=ranking) as api,
        other_sinks(api.client),
        chromium() as browser,
    ):
        fill_board(api.client)
        api.client.zremrangebyrank("top_content_last_10min", 0, CONTENTS - 101)
        api.client.zadd(
            "top_content_last_10min", {content_id(n): 90 * 0.97 ** (CONTENTS - n) for n in range(4900, 5001)}
        )
        thread = threading.Thread(target=flow)
        thread.start()
        pages = {name: opened(browser, api, query, **options) for name, (query, options) in PICTURES.items()}
        next(iter(pages.values())).wait_for_timeout(SEEN_SECONDS * 1000)
        for name, page in pages.items():
            page.bring_to_front()
            page.wait_for_timeout(500)
            page.screenshot(path=IMAGES / f"page-{name}.png")
        stop.set()
        thread.join()


if __name__ == "__main__":
    main()
