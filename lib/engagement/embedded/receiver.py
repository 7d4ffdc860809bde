"""The example receiver: stands for the partner's system that every event is posted to, with a token and signatures."""

import base64
import os
import sys
from typing import ClassVar

from engagement.embedded.process import ProcessSpec
from engagement.embedded.service import Service
from engagement.embedded.site import LOOPBACK, Site, http_answers, loopback_session
from engagement.project import LIBRARY
from engagement.settings.services import RECEIVER

ANSWER_SECONDS = 5.0


class Receiver(Service):
    """The external system."""

    name: ClassVar[str] = "receiver"
    variable: ClassVar[str] = "EXTERNAL_SYSTEM_URL"
    usual_port: ClassVar[int] = 8090
    niceness: ClassVar[int] = 10

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._rest = loopback_session()

    @property
    def given(self) -> dict[str, str]:
        """A receiver of the caller's, with what it asks for: ours must never get to it."""
        return RECEIVER.given(self.site.env)

    def settings(self) -> dict[str, str]:
        """Its address, and what it asks of whoever posts there."""
        return {
            "EXTERNAL_SYSTEM_URL": f"http://{LOOPBACK}:{self.port}/events",
            "EXTERNAL_SYSTEM_TOKEN": self.site.secret("receiver_token"),
            "EXTERNAL_SYSTEM_SIGNING_SECRET": self._signing_secret,
        }

    def address(self) -> str:
        """Where it listens."""
        return f"http://{LOOPBACK}:{self.port}"

    def prepare(self) -> None:
        """Choose its port."""
        self.site.choose_port(self.name, self.usual_port)
        self.folder.mkdir(parents=True, exist_ok=True)

    def spec(self) -> ProcessSpec:
        """Run it in this Python."""
        env = {
            "PATH": os.defpath,
            "TZ": "UTC",
            "PYTHONPATH": str(LIBRARY),
            "RECEIVER_HOST": LOOPBACK,
            "RECEIVER_PORT": str(self.port),
            "RECEIVER_FOLDER": str(self.folder),
            "RECEIVER_TOKEN": self.site.secret("receiver_token"),
            "RECEIVER_SIGNING_SECRET": self._signing_secret,
        }
        return self.process_spec((sys.executable, "-m", "engagement.embedded.receiver_server"), env)

    def answers(self) -> bool:
        """Ask for its health, which no planned fault touches."""
        return http_answers(self._rest, f"{self.address()}/health", ANSWER_SECONDS)

    @property
    def _signing_secret(self) -> str:
        return "whsec_" + base64.b64encode(self.site.secret("receiver_signing").encode()).decode()
