"""The receiver and the record of deliveries against the topic: each row version has arrived, under one key for ever."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from tests.e2e.support.lake import rows_of
from tests.e2e.support.topic import Added, TopicOracle, Values

_COLUMNS = ("event_id", "version", "status")
_PAGE = 10_000
_SECONDS = 10.0

Version = tuple[int, int, str]
"""Event id, version and op."""


@dataclass
class ReceiverOracle(TopicOracle):
    """What the example receiver got of a topic, and what the sink says of it."""

    address: str
    token: str
    lake: Path
    _arrived: Counter[Version] = field(default_factory=Counter, init=False)
    """Keys by the version that they name."""
    _last: int = field(default=0, init=False)
    _deliveries: Added = field(default_factory=lambda: Added("delivery"), init=False)

    def differences(self) -> list[str]:
        """What differs from what was read of the topic."""
        self._read_versions()
        named = {place: (values[2], values[1], "delivered") for place, values in self.topic.events.items()}
        return [
            *arrival_differences(self.topic.events.values(), self._arrived, self.stats()["conflicts"]),
            *self._deliveries.differences(named, *rows_of(self.lake / "deliveries", _COLUMNS, self._deliveries)),
        ]

    def stats(self) -> dict[str, Any]:
        """What the receiver counted."""
        return dict(requests.get(f"{self.address}/stats", timeout=_SECONDS).json())

    def fail(self, *faults: dict[str, object]) -> None:
        """Let the receiver fail as told, from its next request on."""
        answer = requests.put(f"{self.address}/faults", json={"faults": faults}, headers=self._token, timeout=_SECONDS)
        answer.raise_for_status()

    def heal(self) -> None:
        """Let it serve as usual."""
        requests.delete(f"{self.address}/faults", headers=self._token, timeout=_SECONDS).raise_for_status()

    @property
    def _token(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}

    def _read_versions(self) -> None:
        while True:
            url = f"{self.address}/versions?after={self._last}&limit={_PAGE}"
            page = requests.get(url, timeout=_SECONDS).json()
            self._arrived.update((row["event_id"], row["version"], row["op"]) for row in page)
            if not page:
                return
            self._last = page[-1]["number"]


def arrival_differences(events: Iterable[Values], arrived: Counter[Version], conflicts: int) -> list[str]:
    """What never came, came though it should not, or came under several keys; and keys with more than one body."""
    wanted = {(event_id, version, op) for op, version, event_id, *_ in events}
    return [
        *(f"version {version} never arrived" for version in wanted - arrived.keys()),
        *(f"version {version} should not have come" for version in arrived.keys() - wanted),
        *(f"version {version} has come under {keys} keys" for version, keys in arrived.items() if keys > 1),
        *([f"keys have come {conflicts} times with another body"] if conflicts else []),
    ]
