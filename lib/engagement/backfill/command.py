"""What the command does, one step after the other, and what it says."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from engagement.backfill.build import KEEPERS, Request, build_backfills, recount_board, start_spark
from engagement.backfill.progress import Audience, Outcome, table
from engagement.errors import EngagementError
from engagement.monitoring.client import redis_client
from engagement.monitoring.measures import Measures
from engagement.settings import Settings

Say = Callable[[str], None]
PROCESS = "backfill"
"""This process's name among those that measure."""


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
        if any(sink in KEEPERS for sink in request.sinks):
            with audience_of(settings, say) as audience:
                for each in build_backfills(settings, request, spark, stop, audience):
                    if not stop.is_set():
                        outcomes += each.run(restart=restart)
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


@contextmanager
def audience_of(settings: Settings, say: Say) -> Iterator[Audience]:
    """A person, and the monitoring where REDIS_URL leads to it; a backfill does not need it to listen."""
    if not settings.redis.url.get_secret_value():
        yield Audience(say)
        return
    measures, client = Measures(PROCESS, by_sink=True), redis_client(settings.redis)
    try:
        yield Audience(say, measures, partial(measures.flush, client))
        measures.flush(client, force=True)
    finally:
        client.close()


def _timed(sink: str, work: Callable[[], None]) -> Outcome:
    began, outcome = time.monotonic(), Outcome(sink)
    try:
        work()
    except EngagementError as error:
        outcome.failures.append(str(error))
    outcome.seconds = time.monotonic() - began
    return outcome
