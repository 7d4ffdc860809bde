"""The embedded BigQuery through Google's clients: what was committed is there once and stays, the rest never shows."""

import os
import signal
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal

import duckdb
import grpc
import psutil
import pyarrow as pa
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.bigquery_storage_v1 import BigQueryWriteClient, types
from google.cloud.bigquery_storage_v1.services.big_query_write.transports import BigQueryWriteGrpcTransport

from engagement.embedded.bigquery import BigQuery
from engagement.embedded.site import Site

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]
FIELDS = [
    bigquery.SchemaField("event_id", "INT64", "REQUIRED"),
    bigquery.SchemaField("event_timestamp", "TIMESTAMP", "REQUIRED"),
    bigquery.SchemaField("engagement_pct", "NUMERIC"),
    bigquery.SchemaField("flags", "STRING", "REPEATED"),
    bigquery.SchemaField("raw_payload", "JSON"),
]
ROWS = pa.schema(
    [
        ("event_id", pa.int64()),
        ("event_timestamp", pa.timestamp("us", "UTC")),
        ("engagement_pct", pa.decimal128(38, 9)),
        ("flags", pa.list_(pa.string())),
        ("raw_payload", pa.string()),
    ]
)
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


class Warehouse:
    """One table of the emulator, through Google's own clients."""

    def __init__(self, service: BigQuery) -> None:
        settings = service.settings()
        dataset = settings["BIGQUERY_DATASET_ID"]
        self.table = f"{settings['BIGQUERY_PROJECT_ID']}.{dataset}.rows"
        self.path = f"projects/{settings['BIGQUERY_PROJECT_ID']}/datasets/{dataset}/tables/rows"
        self.rest = bigquery.Client(
            project=settings["BIGQUERY_PROJECT_ID"],
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
            client_options={"api_endpoint": f"http://{settings['BIGQUERY_EMULATOR_HOST']}"},
        )
        channel = grpc.insecure_channel(settings["BIGQUERY_EMULATOR_GRPC_HOST"])
        self.writer = BigQueryWriteClient(transport=BigQueryWriteGrpcTransport(channel=channel))

    def make(self) -> bigquery.Table:
        dataset = self.table.rpartition(".")[0]
        self.rest.create_dataset(dataset, exists_ok=True)
        table = bigquery.Table(self.table, schema=FIELDS)
        table.time_partitioning = bigquery.TimePartitioning(field="event_timestamp")
        table.clustering_fields = ["event_id"]
        return self.rest.create_table(table, exists_ok=True)

    def stream(self, ids: Sequence[int]) -> str:
        """Write rows into a pending stream, finalize it, give its name."""
        pending = types.WriteStream(type_=types.WriteStream.Type.PENDING)
        name = str(self.writer.create_write_stream(parent=self.path, write_stream=pending).name)
        arrays = (
            [*ids],
            [NOW] * len(ids),
            [Decimal("33.33")] * len(ids),
            [["over_100"]] * len(ids),
            ['{"a": 1}'] * len(ids),
        )
        batch = pa.record_batch([pa.array(v, f.type) for v, f in zip(arrays, ROWS, strict=True)], schema=ROWS)
        rows = types.AppendRowsRequest.ArrowData(
            writer_schema=types.ArrowSchema(serialized_schema=ROWS.serialize().to_pybytes()),
            rows=types.ArrowRecordBatch(serialized_record_batch=batch.serialize().to_pybytes()),
        )
        request = types.AppendRowsRequest(write_stream=name, offset=0, arrow_rows=rows)
        (answer,) = self.writer.append_rows(iter([request]))
        assert not answer.error.message
        self.writer.finalize_write_stream(name=name)
        return name

    def commit(self, *streams: str) -> list[str]:
        """Commit streams together; the codes of what was wrong, if anything was."""
        request = types.BatchCommitWriteStreamsRequest(parent=self.path, write_streams=streams)
        return [error.code.name for error in self.writer.batch_commit_write_streams(request).stream_errors]

    def rows(self) -> list[dict[str, object]]:
        sql = f"select * from `{self.table}` order by event_id"  # noqa: S608 - a name of ours
        return [dict(row) for row in self.rest.query(sql).result()]

    def ids(self) -> list[object]:
        return [row["event_id"] for row in self.rows()]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BigQuery]:
    service = BigQuery(Site(tmp_path_factory.mktemp("engagement home"), {}))
    service.up()
    yield service
    service.stop()
    service.site.release_ports()


@pytest.fixture
def warehouse(service: BigQuery) -> Warehouse:
    """An empty table, whatever the test before did to it."""
    service.up()
    warehouse = Warehouse(service)
    warehouse.rest.delete_table(warehouse.table, not_found_ok=True)
    warehouse.make()
    return warehouse


def kill(service: BigQuery) -> None:
    pid = service.status().pid
    assert pid is not None
    process = psutil.Process(pid)
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([process], timeout=10)


def test_a_table_keeps_its_types_its_partitions_and_its_clusters(warehouse: Warehouse) -> None:
    table = warehouse.rest.get_table(warehouse.table)
    assert [(field.name, field.field_type, field.mode) for field in table.schema] == [
        (field.name, field.field_type, field.mode) for field in FIELDS
    ]
    assert table.time_partitioning is not None
    assert (table.time_partitioning.type_, table.time_partitioning.field) == ("DAY", "event_timestamp")
    assert table.clustering_fields == ["event_id"]


def test_a_row_comes_back_as_it_was_written(warehouse: Warehouse) -> None:
    assert warehouse.commit(warehouse.stream([7])) == []
    (row,) = warehouse.rows()
    assert row == {
        "event_id": 7,
        "event_timestamp": NOW,
        "engagement_pct": Decimal("33.33"),
        "flags": ["over_100"],
        "raw_payload": {"a": 1},
    }


def test_rows_show_when_their_stream_is_committed_and_only_once(warehouse: Warehouse) -> None:
    stream = warehouse.stream([1, 2])
    assert warehouse.ids() == []
    assert warehouse.commit(stream) == []
    assert warehouse.commit(stream) == ["INVALID_STREAM_STATE"]
    assert warehouse.ids() == [1, 2]


def test_streams_are_committed_together_or_not_at_all(warehouse: Warehouse) -> None:
    one, other = warehouse.stream([1]), warehouse.stream([2])
    assert warehouse.commit(one, f"{warehouse.path}/streams/0123456789abcdef") == ["STREAM_NOT_FOUND"]
    assert warehouse.ids() == []
    assert warehouse.commit(one, other) == []
    assert warehouse.ids() == [1, 2]


def test_what_was_committed_survives_a_kill_and_what_was_not_is_gone(warehouse: Warehouse, service: BigQuery) -> None:
    warehouse.commit(warehouse.stream([1, 2]))
    pending = warehouse.stream([3])
    kill(service)
    assert service.up()
    again = Warehouse(service)
    assert again.ids() == [1, 2]
    assert again.commit(pending) == ["STREAM_NOT_FOUND"]


def test_a_commit_copies_no_table(warehouse: Warehouse, service: BigQuery) -> None:
    """The emulator's own keeps a copy of the whole table for every commit, to travel in time."""
    for number in range(5):
        warehouse.commit(warehouse.stream([number]))
    service.stop()
    with duckdb.connect(service.folder / "data" / "bqemulator.duckdb", read_only=True) as database:
        tables = database.execute("select table_name from duckdb_tables() where not internal").fetchall()
    assert ("rows",) in tables
    assert not [name for (name,) in tables if name.startswith("s_")]


def test_it_listens_on_the_loopback_alone_and_keeps_its_files_in_its_folder(service: BigQuery) -> None:
    service.up()
    process = psutil.Process(service.status().pid)
    listening = {c.laddr.ip for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
    assert process.environ()["HOME"] == str(service.folder / "home")
