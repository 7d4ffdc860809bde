"""What the command does, one step after the other, and what it says."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence

from engagement.backfill.build import TABLES, Request, build_backfill, events_of, recount_board, start_spark
from engagement.backfill.progress import Outcome, table
from engagement.errors import EngagementError
from engagement.settings import Settings

Say = Callable[[str], None]


def dry_run(settings: Settings, request: Request) -> Iterator[str]:
    """What PostgreSQL holds of the range by day, and what a run would do. Raises: TransientError."""
    days = events_of(settings).count_days(request.span)
    for day in days:
        yield f"{day.day}  {day.rows:>12,} rows, ids {day.first_id} to {day.last_id}"
    rows, size = sum(day.rows for day in days), settings.backfill.batch_size
    yield f"{rows:,} rows in {len(days)} days, {-(-rows // size)} chunks of up to {size:,} rows"
    for sink in request.sinks:
        yield f"would {_PURPOSES[sink]}"
    yield "nothing was written"


def backfill(
    settings: Settings,
    request: Request,
    spark_options: Sequence[str],
    stop: threading.Event,
    say: Say,
    *,
    restart: bool,
) -> bool:
    """Fill every sink, and say what became of it; whether nothing failed. Raises: TransientError."""
    outcomes: list[Outcome] = []
    spark = start_spark(settings, spark_options)
    try:
        if any(sink in TABLES for sink in request.sinks):
            outcomes += build_backfill(settings, request, spark, stop, say).run(restart=restart)
        if "redis" in request.sinks and not stop.is_set():
            say("redis: counting the live window again from Kafka")
            outcomes.append(_timed("redis", lambda: recount_board(settings, spark)))
    finally:
        spark.stop()
    for line in table(outcomes):
        say(line)
    for outcome in outcomes:
        for failure in outcome.failures:
            say(f"{outcome.sink} failed: {failure}")
    if stop.is_set():
        say("stopped before the end; the same command goes on")
    return not stop.is_set() and not any(outcome.failures for outcome in outcomes)


_PURPOSES = {
    "warehouse": "add the rows that the warehouse's table lacks, each with version 0",
    "lake": "add the rows that the lake's table lacks, each with version 0",
    "redis": "count the live window again from Kafka; rows outside it change nothing",
}


def _timed(sink: str, work: Callable[[], None]) -> Outcome:
    began, outcome = time.monotonic(), Outcome(sink)
    try:
        work()
    except EngagementError as error:
        outcome.failures.append(str(error))
    outcome.seconds = time.monotonic() - began
    return outcome
