"""A pending stream against a real gRPC server whose answers are scripted: retries, lost answers, refusals, sizes."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

import grpc
import pyarrow as pa
import pytest
from google.cloud.bigquery_storage_v1 import types
from google.rpc import code_pb2, status_pb2

from engagement.errors import PermanentSinkError, TransientSinkError
from engagement.sinks.bigquery.client import WarehouseOptions
from engagement.sinks.bigquery.fence import Answer
from engagement.sinks.bigquery.rows import ROWS
from engagement.sinks.bigquery.stream import MAX_REQUEST_BYTES, PendingStream, commit

pytestmark = pytest.mark.timeout(60)

Code = types.StorageError.StorageErrorCode
COMMITTED_AT = datetime(2026, 11, 23, 15, tzinfo=UTC)


@dataclass
class Service(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Keeps the rows of one stream; `failures` are used up, one for each call that comes."""

    failures: list[grpc.StatusCode] = field(default_factory=list)
    append_errors: list[int] = field(default_factory=list)
    refused: frozenset[int] = frozenset()
    """Event ids of rows that are not taken."""
    ids: list[int | None] = field(default_factory=list)
    lose_answers: int = 0
    commit_errors: list[int] = field(default_factory=list)
    commit_time: datetime | None = COMMITTED_AT
    rows: int = 0
    sizes: list[int] = field(default_factory=list)
    routes: set[str] = field(default_factory=set)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        name = details.method.rpartition("/")[2]
        self.routes |= {str(value) for key, value in details.invocation_metadata if key == "x-goog-request-params"}
        if name == "AppendRows":
            return grpc.stream_stream_rpc_method_handler(self._append)
        calls = {"CreateWriteStream": self._create, "FinalizeWriteStream": self._finalize}
        return grpc.unary_unary_rpc_method_handler(calls.get(name, self._commit))

    def _fail(self, context: grpc.ServicerContext) -> None:
        if self.failures:
            context.abort(self.failures.pop(0), "scripted")

    def _create(self, _request: bytes, context: grpc.ServicerContext) -> bytes:
        self._fail(context)
        return bytes(types.WriteStream.serialize(types.WriteStream(name="the-stream")))

    def _append(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        for data in requests:
            self.sizes.append(len(data))
            request = types.AppendRowsRequest.deserialize(data)
            yield types.AppendRowsResponse.serialize(self._take(request))
            if self.lose_answers:
                self.lose_answers -= 1
                context.abort(grpc.StatusCode.UNAVAILABLE, "scripted")

    def _take(self, request: types.AppendRowsRequest) -> types.AppendRowsResponse:
        if self.append_errors:
            return _refusal(self.append_errors.pop(0))
        if request.offset < self.rows:
            return _refusal(code_pb2.ALREADY_EXISTS)
        assert request.offset == self.rows
        batch = pa.ipc.read_record_batch(pa.py_buffer(request.arrow_rows.rows.serialized_record_batch), ROWS)
        ids = batch.column("event_id").to_pylist()
        if self.refused.intersection(ids):
            return _row_errors([row for row, event_id in enumerate(ids) if event_id in self.refused])
        self.ids += ids
        self.rows += batch.num_rows
        return types.AppendRowsResponse()

    def _finalize(self, _request: bytes, context: grpc.ServicerContext) -> bytes:
        self._fail(context)
        answer = types.FinalizeWriteStreamResponse(row_count=self.rows)
        return bytes(types.FinalizeWriteStreamResponse.serialize(answer))

    def _commit(self, _request: bytes, context: grpc.ServicerContext) -> bytes:
        self._fail(context)
        errors = [types.StorageError(code=code) for code in self.commit_errors]
        at = None if errors else self.commit_time
        answer = types.BatchCommitWriteStreamsResponse(stream_errors=errors, commit_time=at)
        return bytes(types.BatchCommitWriteStreamsResponse.serialize(answer))


def _refusal(code: int) -> types.AppendRowsResponse:
    return types.AppendRowsResponse(error=status_pb2.Status(code=code, message="it quotes a secret"))


def _row_errors(rows: list[int]) -> types.AppendRowsResponse:
    """As BigQuery answers: the request as a whole is refused, and the rows that are to blame are named."""
    error = status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message="Errors found while processing rows")
    fields = types.RowError.RowErrorCode.FIELDS_ERROR
    named = [types.RowError(index=row, code=fields, message="Field device:\n too  odd") for row in rows]
    return types.AppendRowsResponse(error=error, row_errors=named)


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", 11 * 2**20)])
    server.add_generic_rpc_handlers((service,))
    service.port = server.add_insecure_port("127.0.0.1:0")  # type: ignore[attr-defined]
    server.start()
    yield service
    server.stop(0)


@pytest.fixture
def options(service: Service) -> WarehouseOptions:
    address = f"127.0.0.1:{service.port}"  # type: ignore[attr-defined]
    return WarehouseOptions("p", "d", emulator="127.0.0.1:1", emulator_grpc=address, rows_per_request=3)


def some_rows(count: int, payload: str = "{}") -> pa.RecordBatch:
    columns = [pa.array([payload] * count) if f.name == "raw_payload" else pa.nulls(count, f.type) for f in ROWS]
    return pa.RecordBatch.from_arrays(columns, schema=ROWS)


def numbered(*event_ids: int) -> pa.RecordBatch:
    rows = some_rows(len(event_ids))
    return rows.set_column(0, "event_id", pa.array(event_ids, pa.int64()))


def written(options: WarehouseOptions, *batches: pa.RecordBatch) -> PendingStream:
    stream = PendingStream(options)
    for rows in batches:
        stream.append(rows)
    stream.finish()
    return stream


def test_rows_go_out_in_requests_of_the_wanted_size(service: Service, options: WarehouseOptions) -> None:
    stream = written(options, some_rows(7), some_rows(2))
    assert (stream.rows, service.rows, len(service.sizes)) == (9, 9, 4)
    assert "write_stream=the-stream" in service.routes


def test_without_rows_there_is_no_stream(service: Service, options: WarehouseOptions) -> None:
    service.failures = [grpc.StatusCode.UNAVAILABLE] * 9
    assert written(options, some_rows(0)).name == ""
    assert len(service.failures) == 9


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "ABORTED", "INTERNAL", "DEADLINE_EXCEEDED"])
def test_what_passes_by_itself_is_tried_again(service: Service, options: WarehouseOptions, code: str) -> None:
    service.failures = [grpc.StatusCode[code]] * 2
    service.append_errors = [code_pb2.Code.Value(code)]
    assert written(options, some_rows(2)).rows == service.rows == 2


def test_after_a_lost_answer_no_row_is_taken_twice(service: Service, options: WarehouseOptions) -> None:
    service.lose_answers = 1
    assert written(options, some_rows(8), some_rows(4)).rows == service.rows == 12


def test_a_warehouse_that_stays_away_is_given_up_as_transient(service: Service, options: WarehouseOptions) -> None:
    service.failures = [grpc.StatusCode.UNAVAILABLE] * 9
    with pytest.raises(TransientSinkError, match="UNAVAILABLE"):
        written(options, some_rows(1))
    assert len(service.failures) == 5  # four tries


def test_a_refusal_is_permanent_and_quotes_nothing(service: Service, options: WarehouseOptions) -> None:
    service.append_errors = [code_pb2.INVALID_ARGUMENT]
    with pytest.raises(PermanentSinkError, match=r"rows were refused: INVALID_ARGUMENT$"):
        written(options, some_rows(1))


def test_a_stream_that_holds_other_rows_than_were_sent_is_not_used(service: Service, options: WarehouseOptions) -> None:
    stream = PendingStream(options)
    stream.append(some_rows(3))
    service.rows = 2
    with pytest.raises(TransientSinkError, match="holds 2 of 3 rows"):
        stream.finish()


def test_large_rows_are_spread_over_more_requests(service: Service, options: WarehouseOptions) -> None:
    written(options, some_rows(3, payload="x" * (4 * 2**20)))
    assert service.rows == 3
    assert len(service.sizes) > 1
    assert max(service.sizes) < MAX_REQUEST_BYTES + 2**20


def test_a_row_that_no_request_can_hold_is_refused(service: Service, options: WarehouseOptions) -> None:
    with pytest.raises(PermanentSinkError, match="larger than a request"):
        written(options, some_rows(1, payload="x" * MAX_REQUEST_BYTES))
    assert service.rows == 0


@pytest.mark.parametrize(
    ("errors", "answer"),
    [
        ([], Answer.DONE),
        ([Code.STREAM_NOT_FOUND], Answer.GONE),
        ([Code.INVALID_STREAM_STATE], Answer.REFUSED),
        ([Code.STREAM_ALREADY_COMMITTED], Answer.REFUSED),
        ([Code.INVALID_STREAM_STATE, Code.STREAM_NOT_FOUND], Answer.GONE),
    ],
)
def test_a_commit_s_answers_are_told_apart(
    service: Service, options: WarehouseOptions, errors: list[int], answer: Answer
) -> None:
    service.commit_errors = errors
    assert commit(options, ("the-stream",)) is answer


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        ("NOT_FOUND", Answer.GONE),  # the table was made anew, or the streams have outlived their time
        ("INVALID_ARGUMENT", Answer.REFUSED),
        ("FAILED_PRECONDITION", Answer.REFUSED),
        ("UNAVAILABLE", Answer.UNCLEAR),
        ("ABORTED", Answer.UNCLEAR),
    ],
)
def test_a_commit_that_is_answered_by_a_status_is_told_apart_too(
    service: Service, options: WarehouseOptions, status: str, answer: Answer
) -> None:
    service.failures = [grpc.StatusCode[status]]
    assert commit(options, ("the-stream",)) is answer


def test_a_commit_that_nobody_may_make_says_so(service: Service, options: WarehouseOptions) -> None:
    service.failures = [grpc.StatusCode.PERMISSION_DENIED]
    with pytest.raises(PermanentSinkError, match="PERMISSION_DENIED"):
        commit(options, ("the-stream",))


def test_a_commit_without_a_time_did_not_take_place(service: Service, options: WarehouseOptions) -> None:
    service.commit_time = None
    assert commit(options, ("the-stream",)) is Answer.REFUSED


def test_a_commit_whose_answer_is_lost_is_unclear_and_not_sent_again(
    service: Service, options: WarehouseOptions
) -> None:
    service.failures = [grpc.StatusCode.UNAVAILABLE] * 2
    assert commit(options, ("the-stream",)) is Answer.UNCLEAR
    assert len(service.failures) == 1


@pytest.mark.parametrize("refused", [{1}, {4}, {9}, {2, 3}, {1, 5, 6, 7}, set(range(1, 10))])
def test_rows_that_are_refused_keep_no_other_from_being_taken(
    service: Service, options: WarehouseOptions, refused: set[int]
) -> None:
    service.refused = frozenset(refused)
    stream = PendingStream(options)
    found = stream.append(numbered(*range(1, 10)))
    assert {row + 1 for row in found} == refused
    assert set(found.values()) == {"FIELDS_ERROR: Field device: too odd"}
    assert stream.append(numbered(20, 21)) == {}
    stream.finish()
    assert service.ids == [n for n in range(1, 10) if n not in refused] + [20, 21]


def test_a_request_that_is_refused_without_a_word_about_rows_stops_the_sink(
    service: Service, options: WarehouseOptions
) -> None:
    service.append_errors = [code_pb2.INVALID_ARGUMENT]
    with pytest.raises(PermanentSinkError, match="INVALID_ARGUMENT"):
        PendingStream(options).append(numbered(1, 2))
