"""BigQuery: an emulator on the loopback, REST for tables and queries, gRPC for the Storage Write API."""

import os
import sys
from pathlib import Path
from typing import ClassVar

from engagement.embedded.process import ProcessSpec
from engagement.embedded.service import Service
from engagement.embedded.site import LOOPBACK, Site, http_answers, loopback_session, port_answers
from engagement.project import LIBRARY
from engagement.settings.sections import EMULATOR_PROJECT
from engagement.settings.services import EMULATOR, REAL_PROJECT

USUAL_GRPC_PORT = 9060
DATASET = "engagement"
ANSWER_SECONDS = 10.0


class BigQuery(Service):
    """The warehouse."""

    name: ClassVar[str] = "bigquery"
    variable: ClassVar[str] = "BIGQUERY_EMULATOR_HOST"
    usual_port: ClassVar[int] = 9050
    niceness: ClassVar[int] = 10

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._rest = loopback_session()

    @property
    def grpc_port(self) -> int:
        """Its port of the Storage Write API."""
        return self.site.port("bigquery_grpc", USUAL_GRPC_PORT)

    @property
    def given(self) -> dict[str, str]:
        """An emulator of the caller's, or a real project: one that credentials come with."""
        return EMULATOR.given(self.site.env) or REAL_PROJECT.given(self.site.env)

    def settings(self) -> dict[str, str]:
        """Project, dataset, and the two addresses: clients take each from a setting of its own."""
        return {
            "BIGQUERY_PROJECT_ID": self._project,
            "BIGQUERY_DATASET_ID": DATASET,
            "BIGQUERY_EMULATOR_HOST": f"{LOOPBACK}:{self.port}",
            "BIGQUERY_EMULATOR_GRPC_HOST": f"{LOOPBACK}:{self.grpc_port}",
        }

    def address(self) -> str:
        """Both ports."""
        return f"http://{LOOPBACK}:{self.port}, gRPC {self.grpc_port}"

    def prepare(self) -> None:
        """Choose its two ports."""
        self.site.choose_port(self.name, self.usual_port)
        self.site.choose_port("bigquery_grpc", USUAL_GRPC_PORT)
        self._home.mkdir(parents=True, exist_ok=True)

    def spec(self) -> ProcessSpec:
        """Run it in this Python, away from the caller's own settings of Google's and DuckDB's."""
        env = {
            "PATH": os.defpath,
            "TZ": "UTC",
            "HOME": str(self._home),
            "PYTHONPATH": str(LIBRARY),
            "BQEMU_REST_HOST": LOOPBACK,
            "BQEMU_REST_PORT": str(self.port),
            "BQEMU_GRPC_HOST": LOOPBACK,
            "BQEMU_GRPC_PORT": str(self.grpc_port),
            "BQEMU_PERSISTENCE_MODE": "persistent",
            "BQEMU_DATA_DIR": str(self.folder / "data"),
            "BQEMU_UPLOAD_STAGING_DIR": str(self.folder / "uploads"),
            "BQEMU_DEFAULT_PROJECT_ID": self._project,
            # It would be downloaded, and reads a file format that nothing here writes.
            "BQEMU_ENABLE_FORMAT_EXTENSIONS": "false",
            # Whoever asks again wants to know what is there now, not what was.
            "BQEMU_QUERY_CACHE_TTL_SECONDS": "0",
            # A line per request is a file that grows for ever.
            "BQEMU_LOG_LEVEL": "warning",
        }
        return self.process_spec((sys.executable, "-m", "engagement.embedded.bigquery_server"), env)

    def answers(self) -> bool:
        """Ask whether its database answers; the Write API listens last."""
        readiness = f"http://{LOOPBACK}:{self.port}/readyz"
        return port_answers(self.grpc_port) and http_answers(self._rest, readiness, ANSWER_SECONDS)

    @property
    def _project(self) -> str:
        return self.site.env.get("BIGQUERY_PROJECT_ID") or EMULATOR_PROJECT

    @property
    def _home(self) -> Path:
        return self.folder / "home"
