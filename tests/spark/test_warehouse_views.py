"""The warehouse's views agree with plain Python over the rows that were put in."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from tests.builders import BAD_LENGTH_ID, CONTENT_ID, CONTENT_ROWS, NEWSLETTER_ID, Message, envelope, message, row
from tests.reference.scoring import enrich, half_up
from tests.spark import frames
from tests.spark.warehouse import IDENTITY, NOW, Warehouse, part, start

from engagement.embedded.bigquery import BigQuery
from engagement.project import PROJECT
from engagement.sinks.bigquery.reader import WarehouseReader

pytestmark = [pytest.mark.spark, pytest.mark.timeout(120)]

REPORTS = PROJECT / "sql" / "bigquery" / "reports"
LENGTHS = {CONTENT_ID: 60, NEWSLETTER_ID: None, BAD_LENGTH_ID: 0, None: None}
USERS = [f"9b2d7c10-8f4a-4e0b-a1c3-d5e6f7a8b9c{n}" for n in range(3)]
TYPES = ("play", "pause", "finish", "click")


def events() -> list[dict[str, Any]]:
    """Rows whose values walk through all kinds of content, event, length and NULL."""
    contents = list(LENGTHS)
    return [
        row(
            id=n + 1,
            content_id=contents[n % 4],
            user_id=[*USERS, None][n // 4 % 4],
            event_type=TYPES[n // 2 % 4],
            event_ts=f"2026-11-{22 + n % 2}T{n % 5 + 10}:59:59.999999Z",
            duration_ms=[None, 0, 3, 12_345, 60_000, 61_003, 2_147_483_647][n % 7],
        )
        for n in range(60)
    ]


def changed(old: dict[str, Any]) -> dict[str, Any]:
    """The same event later, an hour on and longer."""
    return {**old, "event_ts": "2026-11-23T15:00:00Z", "duration_ms": 33_333}


@pytest.fixture(scope="module")
def warehouse(spark: SparkSession, bigquery: BigQuery) -> Iterator[Warehouse]:
    start(bigquery)
    warehouse = Warehouse(spark, bigquery)
    warehouse.deliver(warehouse.driver(), stored())
    yield warehouse
    warehouse.close()


def stored() -> list[Message]:
    """Every event inserted, every fifth one changed, every seventh one deleted; versions grow."""
    rows = events()
    documents = [envelope("c", after=each, lsn=1000 + n) for n, each in enumerate(rows)]
    documents += [envelope("u", after=changed(e), before=e, lsn=2000 + n) for n, e in enumerate(rows) if n % 5 == 0]
    documents += [envelope("d", before=e, lsn=3000 + n) for n, e in enumerate(rows) if n % 7 == 0]
    return [message(document, offset=n) for n, document in enumerate(documents)]


def expected_current() -> list[dict[str, Any]]:
    return [changed(e) if n % 5 == 0 else e for n, e in enumerate(events()) if n % 7 != 0]


def test_current_events_are_the_newest_versions_of_what_was_not_deleted(warehouse: Warehouse) -> None:
    found = {(r["event_id"], r["duration_ms"], r["op"]) for r in warehouse.rows("current_events")}
    assert found == {(e["id"], e["duration_ms"], "u" if e["id"] % 5 == 1 else "c") for e in expected_current()}
    assert len(warehouse.rows("current_events")) == len(expected_current())


def test_a_backfill_s_row_is_older_than_any_change(warehouse: Warehouse) -> None:
    copy = warehouse.rest.quoted("enriched_events")
    warehouse.rest.run_text(
        f"insert into {copy} (event_id, op, version, duration_ms, processed_timestamp) "  # noqa: S608 a name of ours
        "values (2, 'r', 0, 7, timestamp '2030-01-01 00:00:00+00')"
    )
    (found,) = [r for r in warehouse.rows("current_events") if r["event_id"] == 2]
    assert (found["op"], found["duration_ms"]) == ("c", 0)


def time_of(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["event_ts"]).astimezone(UTC)


def totals(group: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What both views say of some events, in exact numbers."""
    computed = [enrich(e["event_type"], e["duration_ms"], LENGTHS[e["content_id"]]) for e in group]
    percentages = [Fraction(c.pct) for c in computed if c.pct is not None]
    return {
        "events": len(group),
        "unique_users": len({e["user_id"] for e in group if e["user_id"]}),
        "engagement_seconds": sum((c.seconds for c in computed if c.seconds is not None), Decimal(0)),
        "avg_engagement_pct": half_up(sum(percentages, Fraction(0)) / len(percentages)) if percentages else None,
        "score": Decimal(sum(c.units for c in computed)).scaleb(-5),
    }


def exact(value: object) -> object:
    """A number as it is written: these come from one division of whole numbers, so nothing can have drifted."""
    return Decimal(repr(value)) if isinstance(value, float) else value


def test_the_daily_summary_adds_up_every_content_s_day(warehouse: Warehouse) -> None:
    groups: dict[tuple[date, str | None], list[dict[str, Any]]] = defaultdict(list)
    for event in expected_current():
        groups[time_of(event).date(), event["content_id"]].append(event)
    found = {(r["event_date"], r["content_id"]): r for r in warehouse.rows("daily_engagement_summary")}
    assert found.keys() == groups.keys()
    for key, group in groups.items():
        expected = totals(group)
        assert {name: exact(found[key][name]) for name in expected} == expected, key
        assert {kind: found[key][kind] for kind in TYPES} == {
            kind: sum(e["event_type"] == kind for e in group) for kind in TYPES
        }
    assert found[date(2026, 11, 23), CONTENT_ID]["content_title"] == "A"


def test_the_hourly_trends_add_up_every_kind_s_hour(warehouse: Warehouse) -> None:
    kinds = {CONTENT_ID: "podcast", NEWSLETTER_ID: "newsletter", BAD_LENGTH_ID: "video", None: None}
    groups: dict[tuple[datetime, str | None, str], list[dict[str, Any]]] = defaultdict(list)
    for event in expected_current():
        hour = time_of(event).replace(minute=0, second=0, microsecond=0)
        groups[hour, kinds[event["content_id"]], event["event_type"]].append(event)
    found = {
        (r["hour_bucket"], r["content_type"], r["event_type"]): r for r in warehouse.rows("hourly_engagement_trends")
    }
    assert found.keys() == groups.keys()
    for key, group in groups.items():
        expected = totals(group)
        del expected["score"]
        assert {name: exact(found[key][name]) for name in expected} == expected, key
        assert found[key]["unique_contents"] == len({e["content_id"] for e in group if e["content_id"]})


def reader_of(warehouse: Warehouse, now: datetime) -> WarehouseReader:
    return WarehouseReader(warehouse.options, lambda: now)


def test_stats_give_every_day_of_a_range_and_no_other(warehouse: Warehouse) -> None:
    found = reader_of(warehouse, NOW).stats(date(2026, 11, 22), date(2026, 11, 23))
    (day,) = found
    group = [e for e in expected_current() if time_of(e).date() == day.event_date]
    expected = totals(group)
    assert (day.event_date, day.events) == (date(2026, 11, 22), expected["events"])
    assert (day.engagement_seconds, exact(day.score)) == (expected["engagement_seconds"], expected["score"])
    assert (day.play, day.finish) == tuple(sum(e["event_type"] == kind for e in group) for kind in ("play", "finish"))
    assert day.contents == len({e["content_id"] for e in group if e["content_id"]})


def test_the_top_ranks_the_events_of_the_last_hours_like_the_live_board(warehouse: Warehouse) -> None:
    now = datetime(2026, 11, 23, 15, 30, tzinfo=UTC)
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in expected_current():
        if event["content_id"] and (now - time_of(event)).total_seconds() <= 3600:
            groups[event["content_id"]].append(event)
    scores = {content: totals(group)["score"] for content, group in groups.items()}
    expected = sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:2]
    found = reader_of(warehouse, now).top(hours=1, limit=2)
    assert [(content.content_id, exact(content.score)) for content in found] == expected


def test_a_content_that_was_renamed_is_called_as_it_is_now(spark: SparkSession, bigquery: BigQuery) -> None:
    """By all its names, and also when its newest event came before the catalogue knew it."""
    old, new = ({**CONTENT_ROWS[0], "slug": slug, "title": title} for slug, title in (("z", "A"), ("a", "Z")))
    warehouse = Warehouse(spark, bigquery)
    moments = (NOW.replace(second=n) for n in range(3))
    sink = warehouse.driver(lambda: next(moments))
    for n, contents in enumerate(([old], [new], [])):
        sent = message(envelope(after=row(id=n + 1, event_ts=f"2026-11-23T14:0{n}:00Z"), lsn=1000 + n), offset=n)
        sink.deliver(frames.changes(spark, [sent], contents), [part(n, n + 1)], IDENTITY, final=True)
    (day,) = warehouse.rows("daily_engagement_summary")
    assert (day["events"], day["content_slug"], day["content_title"], day["content_type"]) == (3, "a", "Z", "podcast")
    (first,) = reader_of(warehouse, NOW).top(hours=24, limit=2)
    assert (first.events, first.content_title, first.content_type) == (3, "Z", "podcast")
    warehouse.close()


@pytest.mark.parametrize("report", sorted(REPORTS.glob("*.sql")), ids=lambda path: path.stem)
def test_every_report_runs(warehouse: Warehouse, report: Path) -> None:
    reported(warehouse, report)


def reported(warehouse: Warehouse, report: Path) -> list[dict[str, Any]]:
    text = report.read_text(encoding="utf-8").replace("engagement.", f"`{warehouse.options.dataset_id}`.")
    return [dict(row) for row in warehouse.rest.run_text(text).rows]


def hold(warehouse: Warehouse, *rows: str) -> None:
    """Let it hold rows whose times are reckoned from now, as reports reckon them."""
    warehouse.driver().close()  # makes tables and views
    columns = "event_id, op, version, kafka_offset, content_id, event_type, event_timestamp, processed_timestamp"
    table = warehouse.rest.quoted("enriched_events")
    warehouse.rest.run_text(f"insert into {table} ({columns}) values {', '.join(rows)}")  # noqa: S608 texts of ours


def ago(interval: str) -> str:
    return f"timestamp_sub(current_timestamp(), interval {interval})"


def test_the_delay_of_arrival_is_that_of_new_events_of_the_stream(spark: SparkSession, bigquery: BigQuery) -> None:
    warehouse, now = Warehouse(spark, bigquery), "current_timestamp()"
    hold(
        warehouse,
        *(f"({n}, 'c', {n}, {n}, 'x', 'play', {ago('10 second')}, {now})" for n in (1, 2)),
        f"(1, 'u', 9, 9, 'x', 'play', {ago('3 hour')}, {now})",
        f"(3, 'r', 8, 8, 'x', 'play', {ago('90 day')}, {now})",
        f"(4, 'c', 0, null, 'x', 'play', {ago('90 day')}, {now})",
        f"(5, 'c', 5, 5, 'x', 'play', {ago('9 day')}, {ago('8 day')})",
    )
    (day,) = reported(warehouse, REPORTS / "arrival_delay.sql")
    assert (day["events"], day["median_seconds"], day["p99_seconds"]) == (2, 10, 10)
    warehouse.close()


def test_completion_is_that_of_contents_over_seven_days(spark: SparkSession, bigquery: BigQuery) -> None:
    warehouse, content = Warehouse(spark, bigquery), f"'{CONTENT_ID}'"
    of_each = [
        (content, "play", "0 day"), (content, "play", "6 day"), (content, "finish", "0 day"),
        (content, "play", "7 day"), ("null", "play", "0 day"),
    ]  # fmt: skip
    hold(
        warehouse,
        *(f"({n}, 'c', 1, {n}, {whose}, '{kind}', {ago(when)}, {ago('0 day')})"
          for n, (whose, kind, when) in enumerate(of_each)),
    )  # fmt: skip
    (found,) = reported(warehouse, REPORTS / "completion_by_content.sql")
    assert (found["content_id"], found["plays"], found["finishes"]) == (CONTENT_ID, 2, 1)
    assert found["finished_pct"] == 50.0
    warehouse.close()
