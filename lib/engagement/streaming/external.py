"""The external sink's settings as the sink takes them, and its circuit breaker as the metrics have it."""

from engagement.monitoring.catalogue import BREAKER_STATE
from engagement.monitoring.measures import Measures
from engagement.settings import ExternalSettings
from engagement.sinks.external.gate import GateState
from engagement.sinks.external.options import ExternalOptions
from engagement.sinks.external.sink import ExternalSink


def external_options(settings: ExternalSettings) -> ExternalOptions:
    """What the external sink needs to know, as it travels to Spark's tasks."""
    return ExternalOptions(
        url=settings.url,
        token=settings.token.get_secret_value(),
        signing_secrets=settings.signing_secrets,
        headers=tuple((name, value.get_secret_value()) for name, value in settings.headers.items()),
        mode=settings.mode,
        batch_size=settings.batch_size,
        lanes=settings.concurrency,
        timeout_seconds=settings.timeout_seconds,
        retry_attempts=settings.retry_attempts,
        installation=settings.installation,
        allow_private=settings.allow_private,
        ca_file=settings.ca_file,
    )


def measure_breaker(sink: ExternalSink, measures: Measures) -> None:
    """Note the state of the sink's circuit breaker."""
    for state in GateState:
        measures.set(BREAKER_STATE, float(sink.gate_state is state), sink=sink.name, state=state.value)
