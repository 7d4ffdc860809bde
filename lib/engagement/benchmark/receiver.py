"""The embedded receiver as a benchmark uses it: told to be slow or away, and asked what came in what order."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engagement.embedded.site import loopback_session
from engagement.settings import ExternalSettings

ANSWER_SECONDS = 0.05
"""What an answer of one that is far away may take on its way."""
_TIMEOUT_SECONDS = 10.0
_PAGE = 10_000


@dataclass(frozen=True)
class Overtaken:
    """A version that came after a newer one of its event."""

    event_id: int
    version: int
    newer: int


class Partner:
    """The running receiver; opens nothing before it is asked."""

    def __init__(self, settings: ExternalSettings) -> None:
        self._address = settings.url.removesuffix("/events")
        self._token = {"authorization": f"Bearer {settings.token.get_secret_value()}"}

    def fail(self, fault: Mapping[str, object]) -> None:
        """Let every answer be like this, from now on."""
        self._ask("PUT", "faults", {"faults": [fault]})

    def heal(self) -> None:
        """Let it serve as usual."""
        self._ask("DELETE", "faults")

    def repeats(self) -> int:
        """How often a key came again."""
        return int(self._ask("GET", "stats")["repeats"])

    def order(self) -> tuple[int, list[Overtaken]]:
        """How many events came in several versions, and which versions came after a newer one of their event."""
        newest: dict[int, int] = {}
        several: set[int] = set()
        overtaken: list[Overtaken] = []
        last = 0
        while page := self._ask("GET", f"versions?after={last}&limit={_PAGE}"):
            last = page[-1]["number"]
            for row in page:
                event_id, version = row["event_id"], row["version"]
                if event_id in newest:
                    several.add(event_id)
                    if version < newest[event_id]:
                        overtaken.append(Overtaken(event_id, version, newest[event_id]))
                newest[event_id] = max(version, newest.get(event_id, version))
        return len(several), overtaken

    def _ask(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 whatever JSON it answers
        with loopback_session() as session:
            url = f"{self._address}/{path}"
            answer = session.request(method, url, json=body, headers=self._token, timeout=_TIMEOUT_SECONDS)
            answer.raise_for_status()
            return answer.json()


def slow_receiver(settings: ExternalSettings) -> None:
    """Let each answer take so much longer, from now on."""
    Partner(settings).fail({"delay_seconds": ANSWER_SECONDS})
