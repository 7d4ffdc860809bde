"""The probes of the warehouse, the lake and the external system: none of them writes, or sends anything that counts."""

import socket
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, cast
from urllib.parse import urlsplit

import google.auth
import requests
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import AuthorizedSession
from google.oauth2 import service_account

from engagement.errors import EngagementError
from engagement.monitoring.health import ProbeError, Reading
from engagement.monitoring.probes import ANSWER_SECONDS, explain, not_yet
from engagement.monitoring.rules import Found, healthy

PAUSE_SECONDS = 5.0
SCOPES = ("https://www.googleapis.com/auth/bigquery.readonly",)
NO_TABLE = "it answers, and has no table yet"
"""No fault by itself: a job may run without this sink, and one that cannot make its table says so as its query."""


class WarehouseProbe:
    """Reads the metadata of the events' table by one plain request; `connect` gives a session that may ask for it.

    Google's client library would do the same and cost this process more memory than all the rest of it.
    """

    interval_seconds = PAUSE_SECONDS
    expects: Sequence[Reading] = (not_yet("warehouse"),)

    def __init__(self, connect: Callable[[], requests.Session], url: str) -> None:
        self._connect, self._url = connect, url
        self._session: requests.Session | None = None

    def check(self) -> Sequence[Reading]:
        """Ask for the table once."""
        try:
            if self._session is None:
                self._session = self._connect()
            answer = self._session.get(self._url, timeout=ANSWER_SECONDS)
            if answer.status_code == requests.codes.not_found:
                return [healthy("warehouse", reason=NO_TABLE)]
            answer.raise_for_status()
        except (requests.RequestException, GoogleAuthError, OSError) as error:
            self.close()
            raise ProbeError(explain(error)) from error
        return [healthy("warehouse", Found({"columns": len(answer.json()["schema"]["fields"])}))]

    def close(self) -> None:
        """Let go of the connection; the next check opens one again."""
        session, self._session = self._session, None
        if session is not None:
            session.close()


def warehouse_session(credentials_file: str, *, emulator: bool) -> requests.Session:
    """A session with the rights of the key file, else those of this machine. Raises: GoogleAuthError, OSError."""
    if emulator:
        session = requests.Session()
        session.trust_env = False  # a proxy of the environment has no business between this machine's processes
        return session
    if credentials_file:
        load: Any = service_account.Credentials.from_service_account_file
        return cast(requests.Session, AuthorizedSession(load(credentials_file, scopes=SCOPES)))  # type: ignore[no-untyped-call]
    own, _ = google.auth.default(scopes=SCOPES)
    return cast(requests.Session, AuthorizedSession(own))  # type: ignore[no-untyped-call]


def table_url(emulator: str, project: str, dataset: str, table: str) -> str:
    """Address of a table's metadata.

    >>> table_url("127.0.0.1:9050", "p", "d", "t")
    'http://127.0.0.1:9050/bigquery/v2/projects/p/datasets/d/tables/t'
    """
    base = f"http://{emulator}" if emulator else "https://bigquery.googleapis.com"
    return f"{base}/bigquery/v2/projects/{project}/datasets/{dataset}/tables/{table}"


class LakeProbe:
    """Reads the newest version of the events' Delta table; `letters` looks at the refused ones."""

    interval_seconds = 10.0
    expects: Sequence[Reading] = (not_yet("lake"),)

    def __init__(self, lake_path: str, letters: Callable[[], None]) -> None:
        self._table = f"{lake_path.rstrip('/')}/enriched_events"
        self._look_at_letters = letters

    def check(self) -> Sequence[Reading]:
        """Open the table's log."""
        try:
            if not DeltaTable.is_deltatable(self._table):
                return [healthy("lake", reason=NO_TABLE)]
            table = DeltaTable(self._table)
            self._look_at_letters()
        except (DeltaError, OSError, EngagementError) as error:
            raise ProbeError(explain(error)) from error
        return [healthy("lake", Found({"version": table.version()}))]

    def close(self) -> None:
        """Nothing is kept open."""


class ExternalProbe:
    """Opens a connection to the receiver and closes it: whether it would accept an event is for the sink to find out.

    A request, even one without events, could count at the receiver; what its answers mean shows in `query:external`.
    """

    interval_seconds = PAUSE_SECONDS
    expects: Sequence[Reading] = (not_yet("external"),)

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))

    def check(self) -> Sequence[Reading]:
        """Connect."""
        try:
            with closing(socket.create_connection(self._address, timeout=ANSWER_SECONDS)):
                return [healthy("external")]
        except OSError as error:
            raise ProbeError(explain(error)) from error

    def close(self) -> None:
        """Nothing is kept open."""
