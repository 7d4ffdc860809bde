"""The warehouse's tables and statements through BigQuery's REST interface: the driver's half of the clients."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa
from google.api_core.exceptions import NotFound
from google.auth.transport.requests import AuthorizedSession
from google.cloud import bigquery

from engagement.errors import TransientSinkError
from engagement.project import PROJECT
from engagement.sinks.bigquery.client import WarehouseOptions, credentials
from engagement.sinks.bigquery.faults import translated

FENCE = "delivery_fence"
VIEWS = ("current_events", "daily_engagement_summary", "hourly_engagement_trends")
"""In the order in which one needs the other."""
CALL_SECONDS = 30.0
STATEMENT_SECONDS = 120.0
_PAGE_ROWS = 20_000
_SQL = PROJECT / "sql" / "bigquery"
_NO_RETRY: Any = None
"""By themselves the client's calls are tried again for minutes; here the engine does that, and sees why."""

Result = TypeVar("Result")
Parameter = bigquery.ScalarQueryParameter
ListParameter = bigquery.ArrayQueryParameter


@dataclass(frozen=True)
class Answered:
    """What a statement gave."""

    rows: Sequence[Any]
    affected: int
    """Rows that it changed; 0 for a query."""


class Rest:
    """One connection; opens nothing before its first call. Raises: TransientSinkError, PermanentSinkError."""

    def __init__(self, options: WarehouseOptions) -> None:
        self._options = options
        self._client: bigquery.Client | None = None

    @property
    def client(self) -> bigquery.Client:
        """Google's own client."""
        if self._client is None:
            with translated():
                self._client = _connect(self._options)
        return self._client

    def close(self) -> None:
        """Let go of the connection; the next call opens one again."""
        client, self._client = self._client, None
        if client is not None:
            client.close()  # type: ignore[no-untyped-call]

    def call(self, method: Callable[..., Result], *arguments: object, **named: object) -> Result:
        """Call one of the client's methods, once."""
        with translated():
            return method(*arguments, retry=_NO_RETRY, timeout=CALL_SECONDS, **named)

    def find(self, method: Callable[..., Result], name: str) -> Result | None:
        """What one of the client's methods finds under a name; None when there is nothing."""
        try:
            return self.call(method, name)
        except TransientSinkError as error:
            if isinstance(error.__cause__, NotFound):
                return None
            raise

    def run(self, statement: str, parameters: Sequence[Parameter | ListParameter] = (), **names: str) -> Answered:
        """Run a file of sql/bigquery, once; `names` are what its placeholders stand for."""
        return self.run_text(self.text(statement, **names), parameters)

    def run_text(self, text: str, parameters: Sequence[Parameter | ListParameter] = ()) -> Answered:
        """Run a statement, once."""
        with translated():
            job = self._start(text, parameters)
            rows = list(job.result(retry=_NO_RETRY, job_retry=None, timeout=STATEMENT_SECONDS))
            return Answered(rows, job.num_dml_affected_rows or 0)

    def table(self, statement: str, parameters: Sequence[Parameter | ListParameter] = ()) -> pa.Table:
        """Run a query of sql/bigquery, once; for answers of many rows, which stay columns."""
        with translated():
            job = self._start(self.text(statement), parameters)
            rows = job.result(_PAGE_ROWS, retry=_NO_RETRY, job_retry=None, timeout=STATEMENT_SECONDS)
            return rows.to_arrow(create_bqstorage_client=False)

    def _start(self, text: str, parameters: Sequence[Parameter | ListParameter]) -> bigquery.QueryJob:
        config = bigquery.QueryJobConfig(query_parameters=list(parameters), use_query_cache=False)
        return self.client.query(text, config, retry=_NO_RETRY, job_retry=None, timeout=CALL_SECONDS)

    def text(self, statement: str, **names: str) -> str:
        """A file of sql/bigquery with its tables named."""
        own = {name: self.quoted(name) for name in (FENCE, *VIEWS)}
        template = (_SQL / f"{statement}.sql").read_text(encoding="utf-8")
        text = template.format(events=self.quoted(self._options.table), fence=own[FENCE], **{**own, **names})
        return text.strip()

    def quoted(self, table: str) -> str:
        """A table of the dataset, as SQL names it."""
        return f"`{self.full_name(table)}`"

    def full_name(self, table: str) -> str:
        """A table of the dataset, as the API names it."""
        return f"{self._options.dataset_id}.{table}"


def _connect(options: WarehouseOptions) -> bigquery.Client:
    if not options.emulator:
        return bigquery.Client(options.project, credentials(options), location=options.location)
    session = AuthorizedSession(credentials(options))  # type: ignore[no-untyped-call]
    session.trust_env = False  # a proxy of the environment has no business between this machine's own processes
    return bigquery.Client(
        options.project,
        credentials(options),
        _http=session,
        location=options.location,
        client_options={"api_endpoint": f"http://{options.emulator}"},
    )
