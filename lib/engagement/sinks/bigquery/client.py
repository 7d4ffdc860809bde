"""Where the warehouse is, and one client per process: a Spark function's globals do not survive between tasks."""

import os
import threading
from dataclasses import dataclass, field

import google.auth
import grpc
from google.auth.credentials import AnonymousCredentials, Credentials
from google.cloud.bigquery_storage_v1 import BigQueryWriteClient
from google.cloud.bigquery_storage_v1.services.big_query_write.transports import BigQueryWriteGrpcTransport
from google.oauth2 import service_account

SCOPES = ("https://www.googleapis.com/auth/bigquery",)
_CHANNEL = (
    # A proxy of the environment has no business between this machine's own processes.
    ("grpc.enable_http_proxy", 0),
    # By itself a channel waits ever longer before it looks for an emulator that was away.
    ("grpc.max_reconnect_backoff_ms", 1000),
)

_writers: dict[tuple[int, "WarehouseOptions"], BigQueryWriteClient] = {}
_lock = threading.Lock()


@dataclass(frozen=True)
class WarehouseOptions:
    """What the sink needs to know; it travels to Spark's tasks."""

    project: str
    dataset: str
    table: str = "enriched_events"
    location: str = "US"
    credentials_file: str = field(default="", repr=False)
    """Path of a service account's key file, on every worker too; empty: what the machine itself is allowed."""
    emulator: str = ""
    """host:port of an emulator's REST interface; empty: the real service."""
    emulator_grpc: str = ""
    """host:port of its Storage Write API."""
    rows_per_request: int = 50_000
    """What is larger than a request may be is parted anyway (stream.py)."""

    @property
    def dataset_id(self) -> str:
        """The dataset in SQL."""
        return f"{self.project}.{self.dataset}"

    @property
    def table_path(self) -> str:
        """The events' table for the Storage Write API."""
        return f"projects/{self.project}/datasets/{self.dataset}/tables/{self.table}"


def credentials(options: WarehouseOptions) -> Credentials:
    """Give the credentials that these options name. Raises: GoogleAuthError, OSError, ValueError."""
    if options.emulator:
        return AnonymousCredentials()  # type: ignore[no-untyped-call]
    if options.credentials_file:
        found: Credentials = service_account.Credentials.from_service_account_file(  # type: ignore[no-untyped-call]
            options.credentials_file, scopes=SCOPES
        )
        return found
    own: Credentials = google.auth.default(scopes=SCOPES)[0]
    return own


def writer_for(options: WarehouseOptions) -> BigQueryWriteClient:
    """Give this process's client of the Storage Write API; it connects when first used."""
    key = (os.getpid(), options)
    with _lock:
        if key not in _writers:
            _writers[key] = _connect(options)
        return _writers[key]


def _connect(options: WarehouseOptions) -> BigQueryWriteClient:
    if options.emulator:
        channel = grpc.insecure_channel(options.emulator_grpc, options=_CHANNEL)
        transport = BigQueryWriteGrpcTransport(channel=channel)
        return BigQueryWriteClient(transport=transport)  # type: ignore[no-untyped-call]
    return BigQueryWriteClient(credentials=credentials(options))  # type: ignore[no-untyped-call]
