"""The embedded example receiver alone, for tests: started, told to fail, killed, asked."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import requests

from engagement.embedded.receiver import Receiver
from engagement.embedded.site import Site


class Receiving:
    """A running receiver."""

    def __init__(self, service: Receiver) -> None:
        self.service = service

    @property
    def env(self) -> Mapping[str, str]:
        return self.service.settings()

    @property
    def address(self) -> str:
        return self.service.address()

    @property
    def url(self) -> str:
        return self.env["EXTERNAL_SYSTEM_URL"]

    def get(self, path: str) -> Any:  # noqa: ANN401 whatever JSON it answers
        answer = requests.get(f"{self.address}/{path}", timeout=10)
        answer.raise_for_status()
        return answer.json()

    def stats(self) -> dict[str, Any]:
        return dict(self.get("stats"))

    def fail(self, *faults: Mapping[str, object]) -> None:
        answer = requests.put(f"{self.address}/faults", json={"faults": faults}, headers=self._token, timeout=10)
        answer.raise_for_status()

    def heal(self) -> None:
        requests.delete(f"{self.address}/faults", headers=self._token, timeout=10).raise_for_status()

    def kill_and_restart(self) -> None:
        status = self.service.status()
        assert status.pid is not None
        victim = psutil.Process(status.pid)
        victim.kill()
        psutil.wait_procs([victim], timeout=10)
        self.service.up()
        self.service.site.release_ports()

    @property
    def _token(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.env['EXTERNAL_SYSTEM_TOKEN']}"}


@contextmanager
def start_receiver(home: Path) -> Iterator[Receiving]:
    service = Receiver(Site(home, {}))
    try:
        service.up()
        service.site.release_ports()
        yield Receiving(service)
    finally:
        service.stop()
