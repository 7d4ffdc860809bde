"""The program behind the embedded BigQuery: bqemulator, less what a small machine without a network cannot afford.

Run by `bigquery.BigQuery` as a process of its own, with its settings in BQEMU_* variables. Nothing else may import it.
"""

from functools import lru_cache
from typing import Any

import grpc
import pyarrow as pa
import sqlglot
from bqemulator import server
from bqemulator.catalog.models import SnapshotMeta
from bqemulator.config import Settings
from bqemulator.domain.errors import InvalidQueryError, UnsupportedFeatureError
from bqemulator.domain.result import Result
from bqemulator.grpc_api import write_servicer
from bqemulator.grpc_api.write_servicer import BigQueryWriteHandler
from bqemulator.row_access.identity import CallerIdentity
from bqemulator.sql.translator import SQLTranslator
from bqemulator.storage.engine import DuckDBEngine
from bqemulator.streaming.write_stream import WriteStream
from bqemulator.versioning.snapshots import SnapshotManager
from sqlglot.dialects.dialect import DialectType

Columns = tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
"""Names and types of the columns of each table."""
Translated = Result[str, InvalidQueryError | UnsupportedFeatureError]
STATEMENTS = 512
"""So many that were read last are remembered: sinks send the same few, with other parameters, micro-batch after
micro-batch, and the emulator reads each some twenty times on its way to the database."""


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


def remember_statements() -> None:
    """Read and translate each text once; whoever asks for its tree changes it, and so gets a copy."""
    parse_one, translate = sqlglot.parse_one, SQLTranslator.translate

    @lru_cache(STATEMENTS)
    def tree_of(text: str, dialect: DialectType) -> sqlglot.Expr:
        return parse_one(text, read=dialect)

    def parse(text: str, read: DialectType = None, **options: Any) -> sqlglot.Expr:  # noqa: ANN401 - sqlglot says which
        # sqlglot's own passes have parts of statements read, as what the options say.
        return parse_one(text, read=read, **options) if options else tree_of(text, read).copy()

    @lru_cache(STATEMENTS)
    def translated(translator: SQLTranslator, text: str, columns: Columns, caller: CallerIdentity | None) -> Translated:
        return translate(translator, text, schema={name: dict(those) for name, those in columns} or None, caller=caller)

    def translate_again(
        translator: SQLTranslator,
        text: str,
        *,
        schema: dict[str, dict[str, str]] | None = None,
        caller: CallerIdentity | None = None,
    ) -> Translated:
        columns = tuple((name, tuple(those.items())) for name, those in (schema or {}).items())
        return translated(translator, text, columns, caller)

    for owner, name, ours in ((sqlglot, "parse_one", parse), (SQLTranslator, "translate", translate_again)):
        setattr(owner, name, ours)


def main() -> None:
    """Serve until SIGTERM."""
    for module, name, ours in (
        (server, "DuckDBEngine", LocalEngine),
        (server, "SnapshotManager", NoHistory),
        (write_servicer, "BigQueryWriteHandler", AtomicCommits),
    ):
        setattr(module, name, ours)
    remember_statements()
    server.run_forever(Settings())


if __name__ == "__main__":
    main()
