"""The warehouse sink on the real service.

It costs a few cents, so it runs only when it is asked for:

    BIGQUERY_PROJECT_ID=my-project GOOGLE_APPLICATION_CREDENTIALS=key.json ./spark-submit.sh test -m bigquery_live

It makes a dataset of its own and deletes it. Set BIGQUERY_EMULATOR_HOST and BIGQUERY_EMULATOR_GRPC_HOST as well, and it
runs on an emulator: that is how it is known to work where nobody has a project.
"""

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from pyspark.sql import SparkSession
from tests.builders import Message, created, envelope, message, row
from tests.spark.warehouse import Dataset, part

from engagement.sinks.bigquery.client import WarehouseOptions
from engagement.sinks.bigquery.fence import Answer
from engagement.sinks.bigquery.ledger import BigQueryLedger
from engagement.sinks.bigquery.reader import WarehouseReader
from engagement.sinks.bigquery.rest import Rest

pytestmark = [pytest.mark.bigquery_live, pytest.mark.timeout(600)]


@pytest.fixture
def live(spark: SparkSession) -> Iterator[Dataset]:
    project = os.environ.get("BIGQUERY_PROJECT_ID", "")
    if not project:
        pytest.fail("BIGQUERY_PROJECT_ID names no project, and -m bigquery_live asks for one")
    options = WarehouseOptions(
        project=project,
        dataset=f"engagement_test_{uuid4().hex[:12]}",
        location=os.environ.get("BIGQUERY_LOCATION", "US"),
        credentials_file=os.environ.get("GOOGLE_APPLICATION_CREDENTIALS", ""),
        emulator=os.environ.get("BIGQUERY_EMULATOR_HOST", ""),
        emulator_grpc=os.environ.get("BIGQUERY_EMULATOR_GRPC_HOST", ""),
    )
    dataset = Dataset(spark, options)
    yield dataset
    dataset.drop()


def placed(messages: Sequence[Message], at: datetime, first: int = 0, partition: int = 0) -> list[Message]:
    return [Message(each.value, offset=first + n, partition=partition, kafka_ts=at) for n, each in enumerate(messages)]


def test_rows_arrive_once_and_views_show_the_newest(live: Dataset) -> None:
    now = datetime.now(UTC) - timedelta(minutes=1)
    at = now.isoformat(timespec="microseconds").replace("+00:00", "Z")
    sink = live.driver(lambda: datetime.now(UTC))
    first = [created(id=n, event_ts=at) for n in (1, 2, 3)]
    changes = [
        message(envelope("u", after=row(id=1, event_ts=at, duration_ms=60_000), before=row(id=1), lsn=10**9)),
        message(envelope("d", before=row(id=2, event_ts=at), lsn=10**9 + 1)),
    ]
    sent = placed([*first, *changes], now)
    live.deliver(sink, sent[:3], part(0, 3))
    live.deliver(sink, sent, part(0, 5))
    live.deliver(live.driver(lambda: datetime.now(UTC)), sent, part(0, 5))
    assert sorted((r["event_id"], r["op"]) for r in live.events()) == [(1, "c"), (1, "u"), (2, "c"), (2, "d"), (3, "c")]
    assert sorted((r["event_id"], r["duration_ms"]) for r in live.rows("current_events")) == [(1, 60_000), (3, 30_000)]
    (day,) = WarehouseReader(live.options).stats(now.date(), now.date() + timedelta(days=1))
    assert (day.events, day.play) == (2, 2)


def test_a_commit_that_is_sent_again_is_refused_and_its_rows_are_found(live: Dataset) -> None:
    """What `protocol.py` builds on: the answers to a second commit and to an unknown stream."""
    seen: list[tuple[str, ...]] = []

    class Recording(BigQueryLedger):
        def commit(self, streams: tuple[str, ...]) -> Answer:
            seen.append(streams)
            return super().commit(streams)

    now = datetime.now(UTC)
    sink = live.driver(lambda: now)
    sink.ledger = Recording
    sink.open()
    live.deliver(sink, placed([created(id=9)], now, first=0, partition=7), part(0, 1, partition=7))
    ledger = BigQueryLedger(Rest(live.options), live.options)
    assert ledger.commit(seen[-1]) in {Answer.REFUSED, Answer.GONE}
    unknown = f"{live.options.table_path}/streams/none"
    assert ledger.commit((unknown,)) in {Answer.GONE, Answer.REFUSED}
