"""The external system as the destination of events that it refused: sent by the sink's own caller, with the same keys.

Guarantee: at least once. Nothing here remembers what was sent; the receiver does, by the key, which is the one that the
sink gave the same row version. A crash makes at most `unmarked_letters` go out again.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial

import pyarrow as pa
from pyspark.sql.pandas.types import to_arrow_schema

from engagement.dead_letters.letter import LetterId, Place
from engagement.dead_letters.replay import Replay
from engagement.errors import PermanentSinkError, TransientSinkError
from engagement.retry import RetryPolicy, call_with_retry
from engagement.schemas import NARROW_MESSAGES, TABLE_TOPIC
from engagement.sinks.external.answers import Answer, Verdict
from engagement.sinks.external.caller import Caller
from engagement.sinks.external.events import Event, to_events
from engagement.sinks.external.options import SINK, ExternalOptions
from engagement.sinks.outcomes import row_versions
from engagement.transform.changes import transform_batches
from engagement.transform.content import Contents

_RETRIES = RetryPolicy(attempts=6, base_seconds=0.5, cap_seconds=10.0, deadline_seconds=60.0)
_MESSAGES = to_arrow_schema(NARROW_MESSAGES, timezone="UTC")


class ReceiverReplays:
    """Opens nothing before the first `send`."""

    unmarked_letters = 100

    def __init__(self, options: ExternalOptions, contents: Callable[[], pa.Table]) -> None:
        """`contents` reads the catalogue (contract CONTENT)."""
        self._options = options
        self._read_contents = contents
        self._contents: Contents | None = None

    def takes(self, letter: LetterId) -> bool:
        """Every one but of a table's rows, whose versions their place in Kafka does not tell."""
        return letter.topic != TABLE_TOPIC

    def sent_before(self, _places: Sequence[Place]) -> Mapping[Place, str]:
        """Nothing: the receiver knows by the key."""
        return {}

    def send(self, replays: Sequence[Replay]) -> Iterator[tuple[Place, str]]:
        """Post one after the other, in the order in which they were refused."""
        with closing(Caller(self._options)) as caller:
            first = _first_offset(replays)
            for event in self._events(replays, first):
                answer = call_with_retry(partial(_post, caller, event), _RETRIES)
                if answer.verdict is Verdict.DONE:
                    yield replays[event.version.offset - first].place, f"{answer.told} to {event.version.key}"

    def _events(self, replays: Sequence[Replay], first: int) -> Iterator[Event]:
        """Their row versions, at offsets from `first` on in the order of their letters, whose own may be the same."""
        if not replays:
            return
        if self._contents is None:
            self._contents = Contents(self._read_contents())
        rows = [
            {
                "topic": replay.id.topic, "partition": replay.id.partition, "offset": offset,
                "timestamp": replay.letter.letter.kafka_ts, "value": replay.value,
                "header_names_json": json.dumps(replay.letter.header_names), "replay_of": replay.letter.stands_at,
            }
            for offset, replay in enumerate(replays, first)
        ]  # fmt: skip
        messages = pa.RecordBatch.from_pylist(rows, schema=_MESSAGES)
        for changes in transform_batches([messages], self._contents):
            yield from to_events(row_versions(changes, 0), self._options.installation)


def _first_offset(replays: Sequence[Replay]) -> int:
    """One that none lies behind of those that these stand for: no message is sent again before its own place."""
    return max((replay.letter.stands_at for replay in replays), default=0)


def _post(caller: Caller, event: Event) -> Answer:
    answer = caller.post(event.version.key, event.body)
    if answer.verdict is Verdict.RETRY:
        raise TransientSinkError(SINK, answer.told, answer.retry_after_seconds)
    if answer.verdict is Verdict.PAUSE:
        raise PermanentSinkError(SINK, f"{answer.told}; nothing more was sent")
    return answer
