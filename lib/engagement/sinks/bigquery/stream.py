"""One pending stream of the Storage Write API: what is appended is seen by nobody until the stream is committed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import pyarrow as pa
from google.api_core.exceptions import BadRequest, NotFound
from google.cloud.bigquery_storage_v1 import BigQueryWriteClient, types
from google.rpc import code_pb2

from engagement.errors import EngagementError, PermanentSinkError, TransientSinkError
from engagement.retry import RetryPolicy, call_with_retry
from engagement.sinks.bigquery.client import WarehouseOptions, writer_for
from engagement.sinks.bigquery.faults import SINK, translated
from engagement.sinks.bigquery.fence import Answer
from engagement.sinks.bigquery.rows import ROWS

MAX_REQUEST_BYTES = 9 * 1024 * 1024
"""BigQuery takes requests of 10 MB; what is around the rows is small."""
CALL_SECONDS = 60.0
_RETRIES = RetryPolicy(attempts=4, base_seconds=0.2, cap_seconds=2.0, deadline_seconds=20.0)
"""Short: the engine repeats the whole micro-batch after it."""
_TAKEN = frozenset({code_pb2.OK, code_pb2.ALREADY_EXISTS})
"""A request that is sent again after a lost answer is told that its offset is taken."""
_WORTH_ANOTHER_TRY = frozenset(
    {
        code_pb2.UNAVAILABLE,
        code_pb2.RESOURCE_EXHAUSTED,
        code_pb2.ABORTED,
        code_pb2.INTERNAL,
        code_pb2.DEADLINE_EXCEEDED,
        code_pb2.CANCELLED,
        code_pb2.UNKNOWN,
        code_pb2.NOT_FOUND,
        # What lies before it did not arrive; it is sent again too.
        code_pb2.OUT_OF_RANGE,
    }
)
_REASON_LENGTH = 300
_SCHEMA = types.ArrowSchema(serialized_schema=ROWS.serialize().to_pybytes())

Result = TypeVar("Result")


class RowsRefusedError(EngagementError):
    """BigQuery names rows of a request that it does not take; none of the request's rows are in the stream."""

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__(f"{len(reasons)} row(s) were refused")
        self.reasons = reasons
        """Row of the request -> what BigQuery says of it."""


class PendingStream:
    """Made when the first rows come; every method raises TransientSinkError and PermanentSinkError."""

    def __init__(self, options: WarehouseOptions) -> None:
        self._options = options
        self.name = ""
        """Empty while nothing was appended."""
        self.rows = 0

    def append(self, rows: pa.RecordBatch) -> dict[int, str]:
        """Send rows (schema ROWS), in requests of bounded size; give those that BigQuery refuses, with its reasons.

        A row that is refused keeps no other from being taken.
        """
        if not rows.num_rows:
            return {}
        if not self.name:
            self.name = _tried(self._create)
        pieces = list(self._pieces(rows))
        try:
            self._place(pieces)
        except RowsRefusedError:
            # Rare: one by one, so that each answer belongs to one request. Those that were taken are told so again.
            return self._place_one_by_one(pieces)
        return {}

    def finish(self) -> None:
        """Close the stream to further rows; only then can it be committed."""
        if not self.name:
            return
        count = _tried(lambda: self._writer.finalize_write_stream(name=self.name, retry=None, timeout=CALL_SECONDS))
        if count.row_count != self.rows:
            raise TransientSinkError(SINK, f"a stream holds {count.row_count} of {self.rows} rows")

    @property
    def _writer(self) -> BigQueryWriteClient:
        return writer_for(self._options)

    def _create(self) -> str:
        pending = types.WriteStream(type_=types.WriteStream.Type.PENDING)
        made = self._writer.create_write_stream(
            parent=self._options.table_path, write_stream=pending, retry=None, timeout=CALL_SECONDS
        )
        return str(made.name)

    def _place(self, pieces: Sequence[pa.RecordBatch]) -> None:
        requests, at = [], self.rows
        for piece in pieces:
            data = piece.serialize().to_pybytes()
            arrow = types.AppendRowsRequest.ArrowData(
                writer_schema=_SCHEMA, rows=types.ArrowRecordBatch(serialized_record_batch=data)
            )
            requests.append(types.AppendRowsRequest(write_stream=self.name, offset=at, arrow_rows=arrow))
            at += piece.num_rows
        _tried(lambda: self._send(requests))
        self.rows = at

    def _place_one_by_one(self, pieces: Sequence[pa.RecordBatch]) -> dict[int, str]:
        refused: dict[int, str] = {}
        first = 0
        for piece in pieces:
            left = list(range(piece.num_rows))
            while left:
                try:
                    self._place([piece.take(pa.array(left, pa.int64()))])
                except RowsRefusedError as error:
                    refused |= {first + left[row]: reason for row, reason in error.reasons.items()}
                    left = [number for row, number in enumerate(left) if row not in error.reasons]
                else:
                    break
            first += piece.num_rows
        return refused

    def _pieces(self, rows: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        for start in range(0, rows.num_rows, self._options.rows_per_request):
            yield from _parted(rows.slice(start, self._options.rows_per_request))

    def _send(self, requests: list[types.AppendRowsRequest]) -> None:
        # The library adds the stream's name to this call's metadata in its own writer only.
        where = (("x-goog-request-params", f"write_stream={self.name}"),)
        answers = self._writer.append_rows(iter(requests), retry=None, timeout=CALL_SECONDS, metadata=where)
        count = 0
        for answer in answers:
            _check(answer)
            count += 1
        if count != len(requests):
            raise TransientSinkError(SINK, f"{count} of {len(requests)} requests were answered")


def commit(options: WarehouseOptions, streams: tuple[str, ...]) -> Answer:
    """Make the rows of finalized streams visible, all or none; never sent twice by itself.

    What BigQuery says of the streams may come in its answer or as the call's status. Raises: PermanentSinkError.
    """
    request = types.BatchCommitWriteStreamsRequest(parent=options.table_path, write_streams=streams)
    try:
        with translated():
            answer = writer_for(options).batch_commit_write_streams(request, retry=None, timeout=CALL_SECONDS)
    except TransientSinkError as error:
        return Answer.GONE if isinstance(error.__cause__, NotFound) else Answer.UNCLEAR
    except PermanentSinkError as error:
        if isinstance(error.__cause__, BadRequest):  # INVALID_ARGUMENT, FAILED_PRECONDITION
            return Answer.REFUSED
        raise
    codes = {error.code for error in answer.stream_errors}
    if not codes:
        # Without a time the commit did not take place, whatever else the answer lacks.
        return Answer.DONE if "commit_time" in answer else Answer.REFUSED
    return Answer.GONE if types.StorageError.StorageErrorCode.STREAM_NOT_FOUND in codes else Answer.REFUSED


def _parted(rows: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Rows, halved until a request can hold them."""
    size = pa.ipc.get_record_batch_size(rows)  # what they take as bytes, without making these
    if size <= MAX_REQUEST_BYTES:
        yield rows
    elif rows.num_rows == 1:
        raise PermanentSinkError(SINK, f"a row of {size} bytes is larger than a request may be")
    else:
        half = rows.num_rows // 2
        yield from _parted(rows.slice(0, half))
        yield from _parted(rows.slice(half))


def _check(answer: types.AppendRowsResponse) -> None:
    if answer.row_errors:
        raise RowsRefusedError({int(error.index): _reason(error) for error in answer.row_errors})
    code = answer.error.code
    if code in _TAKEN:
        return
    reason = code_pb2.Code.Name(code)
    if code in _WORTH_ANOTHER_TRY:
        raise TransientSinkError(SINK, f"rows were not taken: {reason}")
    raise PermanentSinkError(SINK, f"rows were refused: {reason}")


def _reason(error: types.RowError) -> str:
    """What BigQuery says, in one line of bounded length; it may quote the row, as the letter's own bytes do."""
    kind = types.RowError.RowErrorCode(error.code).name
    return f"{kind}: {' '.join(error.message.split())}"[:_REASON_LENGTH]


def _tried(call: Callable[[], Result]) -> Result:
    def once() -> Result:
        with translated():
            return call()

    return call_with_retry(once, _RETRIES)
