"""The program behind the embedded BigQuery: bqemulator, less what a small machine without a network cannot afford.

Run by `bigquery.BigQuery` as a process of its own, with its settings in BQEMU_* variables. Nothing else may import it.
"""

import grpc
import pyarrow as pa
from bqemulator import server
from bqemulator.catalog.models import SnapshotMeta
from bqemulator.config import Settings
from bqemulator.grpc_api import write_servicer
from bqemulator.grpc_api.write_servicer import BigQueryWriteHandler
from bqemulator.storage.engine import DuckDBEngine
from bqemulator.streaming.write_stream import WriteStream
from bqemulator.versioning.snapshots import SnapshotManager


class LocalEngine(DuckDBEngine):
    """The database without its spatial extension, which is downloaded and serves GEOGRAPHY alone."""

    def _load_spatial(self) -> None:
        """Load nothing."""


class NoHistory(SnapshotManager):
    """No time travel: the emulator would copy the whole table after every commit."""

    def capture(self, project_id: str, dataset_id: str, table_id: str, *, kind: str = "AUTO") -> SnapshotMeta | None:  # noqa: ARG002 - the emulator's own signature
        """Keep nothing."""
        return None


class AtomicCommits(BigQueryWriteHandler):
    """All streams of a commit in one insert, as BigQuery does it; the emulator's own loop can be killed half-way."""

    _held: list[tuple[WriteStream, pa.Table]] | None = None

    def _handle_batch_commit_write_streams(self, request_bytes: bytes, context: grpc.ServicerContext) -> bytes:
        """Hold every stream's rows back, then write them together; a commit concerns one table."""
        with self._write_lock:
            self._held = []
            try:
                answer: bytes = super()._handle_batch_commit_write_streams(request_bytes, context)
                held = self._held
            finally:
                self._held = None
            if held:
                super()._flush_to_target(held[0][0], pa.concat_tables([rows for _, rows in held]))
            return answer

    def _flush_to_target(self, stream: WriteStream, rows: pa.Table) -> None:
        with self._write_lock:
            if self._held is None:
                super()._flush_to_target(stream, rows)
            else:
                self._held.append((stream, rows))


def main() -> None:
    """Serve until SIGTERM."""
    for module, name, ours in (
        (server, "DuckDBEngine", LocalEngine),
        (server, "SnapshotManager", NoHistory),
        (write_servicer, "BigQueryWriteHandler", AtomicCommits),
    ):
        setattr(module, name, ours)
    server.run_forever(Settings())


if __name__ == "__main__":
    main()
