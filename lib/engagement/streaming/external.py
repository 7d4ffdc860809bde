"""The external sink's settings as the sink takes them, its breaker and its requests as the metrics have them."""

from engagement.monitoring.catalogue import BREAKER_STATE, REQUEST_RETRIES, REQUESTS
from engagement.monitoring.measures import Measures, Recorder
from engagement.settings import ExternalSettings
from engagement.sinks.external.gate import GateState
from engagement.sinks.external.options import SINK, ExternalOptions
from engagement.sinks.external.sink import ExternalSink
from engagement.sinks.external.trip import Tally


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


def measure_requests(measures: Recorder, sent: Tally) -> None:
    """Count what was sent by what it came to."""
    delivered = sent.requests - sent.refused - sent.failures
    for outcome, count in (("delivered", delivered), ("refused", sent.refused), ("failed", sent.failures)):
        measures.add(REQUESTS, count, sink=SINK, outcome=outcome)
    measures.add(REQUEST_RETRIES, sent.retries, sink=SINK)
