"""Which settings reach the same service: a caller's service and the running stack's are never mixed. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True)
class Brought:
    """A way to bring a service along: the settings that name it, the telling one first, and those that go with them."""

    named_by: tuple[str, ...]
    companions: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All of its settings."""
        return self.named_by + self.companions

    def given(self, caller: Mapping[str, Value]) -> dict[str, Value]:
        """Return the caller's settings of it; empty when the caller does not bring it along."""
        if not all(caller.get(name) for name in self.named_by):
            return {}
        return {name: caller[name] for name in self.names if caller.get(name)}


RECEIVER = Brought(("EXTERNAL_SYSTEM_URL",), ("EXTERNAL_SYSTEM_TOKEN", "EXTERNAL_SYSTEM_SIGNING_SECRET"))
EMULATOR = Brought(
    ("BIGQUERY_EMULATOR_HOST",), ("BIGQUERY_EMULATOR_GRPC_HOST", "BIGQUERY_PROJECT_ID", "BIGQUERY_DATASET_ID")
)
REAL_PROJECT = Brought(("BIGQUERY_PROJECT_ID", "GOOGLE_APPLICATION_CREDENTIALS"), ("BIGQUERY_DATASET_ID",))
"""In BigQuery; one without credentials is the emulator's."""
KAFKA = Brought(("KAFKA_BOOTSTRAP_SERVERS",), ("KAFKA_TOPIC_ENGAGEMENT_EVENTS", "KAFKA_CONNECT_URL"))
"""The stack's Connect writes to the stack's Kafka alone."""
_WAYS = ((RECEIVER,), (EMULATOR, REAL_PROJECT), (KAFKA,))
"""Of each service with more than one setting, the ways to bring it along, stronger first."""


def without_the_callers(stack: Mapping[str, object], caller: Mapping[str, object]) -> dict[str, object]:
    """Return what a running stack says, without what it says of services that the caller brings along.

    A caller who names the stack's own service has it whole.

    >>> told = {"EXTERNAL_SYSTEM_URL": "http://127.0.0.1:8090/events", "EXTERNAL_SYSTEM_TOKEN": "t"}
    >>> without_the_callers(told, {"EXTERNAL_SYSTEM_URL": "https://partner/events"})
    {}
    >>> without_the_callers(told, {"EXTERNAL_SYSTEM_URL": "http://127.0.0.1:8090/events"}) == told
    True
    """
    dropped: set[str] = set()
    for ways in _WAYS:
        brought = next((way for way in ways if way.given(caller)), None)
        if brought and any(_text(stack.get(name)) != _text(caller[name]) for name in brought.named_by):
            dropped.update(name for way in ways for name in way.names)
    return {name: value for name, value in stack.items() if name not in dropped}


def _text(value: object) -> str:
    """The value in the stack's spelling: without blanks or a last comma in a list of brokers, and by address."""
    return "".join(str(value).split()).strip(",").replace("localhost", "127.0.0.1")
