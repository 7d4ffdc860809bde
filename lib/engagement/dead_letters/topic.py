"""The events' topic as the destination of letters that the transform refused: every sink takes them by its own path.

Guarantee: each letter is in the topic once. Messages and markers (topic `<events>-replays`, compacted, keyed by the
letter's id and Kafka time) are written in one Kafka transaction, and readers see both or none. All runs share one
transactional id: beginning one fences the one before and ends its open transaction, so what the markers say then is all
there is.

Time bound: a run that is killed in a transaction holds up readers of the topic until the broker ends it, which is
after TRANSACTION_MS; a transaction takes far less than a second.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from engagement.dead_letters.letter import LetterId, Place
from engagement.dead_letters.replay import MARK_LETTERS, Replay
from engagement.errors import PermanentError, TransientError
from engagement.schemas import REPLAY_OF
from engagement.transform.envelope import NEW_KEY, OLD_KEY

TRANSACTION_MS = 10_000
_CALL_SECONDS = 10.0
_POLL_SECONDS = 1.0
_POLLED = 1_000
_MAX_MESSAGE_BYTES = 16 * 1024 * 1024
_SENT = "sent by a run that ended before it could note so"
_KEPT_HEADERS = (NEW_KEY, OLD_KEY)
"""Headers that say what a message is; the transform looks at their names only."""
_FENCED = frozenset({KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED})


class ReplayTopic:
    """Opens nothing before the first call; what it has not committed at the process's end is never seen."""

    unmarked_letters = MARK_LETTERS

    def __init__(self, topic: str, properties: Mapping[str, str], clock: Callable[[], float]) -> None:
        """`properties` are those of confluent-kafka, brokers included; `clock` gives monotonic seconds."""
        self._topic = topic
        self._markers = f"{topic}-replays"
        self._properties = dict(properties)
        self._clock = clock
        self._producer: Producer | None = None

    def takes(self, letter: LetterId) -> bool:
        """Only its own: partition and offset of another topic mean nothing in it."""
        return letter.topic == self._topic

    def sent_before(self, places: Sequence[Place]) -> Mapping[Place, str]:
        """Those of these letters that the topic holds already. Ends what an earlier run has left open."""
        with _translated(self._topic):
            self._make_markers()
            if self._producer is None:
                self._producer = self._begin()
            written_ms = dict(self._read_markers())
        return {place: _SENT for place in places if _is_marked(place, written_ms)}

    def send(self, replays: Sequence[Replay]) -> Iterator[tuple[Place, str]]:
        """Send all of them in one transaction, and only then give any."""
        producer = self._producer
        if producer is None:
            raise PermanentError("the topic must be asked what it holds before anything is sent to it")
        if not replays:
            return
        offsets: dict[Place, int] = {}
        with _translated(self._topic), _transaction(producer):
            for replay in replays:
                self._produce(producer, replay, offsets)
                producer.poll(0)
            producer.flush(_CALL_SECONDS)
        for replay in replays:
            yield replay.place, f"sent as {self._topic}:{replay.id.partition}:{offsets[replay.place]}"

    def _produce(self, producer: Producer, replay: Replay, offsets: dict[Place, int]) -> None:
        def on_delivery(error: KafkaError | None, message: Message) -> None:
            if error is None:
                offsets[replay.place] = int(message.offset() or 0)

        letter, key = replay.id, replay.content_id
        kept = [(name, b"{}") for name in replay.letter.header_names if name in _KEPT_HEADERS]
        producer.produce(
            self._topic, replay.value, None if key is None else key.encode(),
            # Its own partition: the letter's shard of the board is the one that knows about it.
            partition=letter.partition,
            headers=[*kept, (REPLAY_OF, str(replay.letter.stands_at).encode())],
            on_delivery=on_delivery,
        )  # fmt: skip
        producer.produce(self._markers, b"sent", _marker(replay.place).encode())

    def _begin(self) -> Producer:
        producer = Producer(
            {
                **self._properties,
                "transactional.id": self._markers,
                "transaction.timeout.ms": TRANSACTION_MS,
                "message.max.bytes": _MAX_MESSAGE_BYTES,
                "linger.ms": 5,
                "log_level": 2,
            }
        )
        producer.init_transactions(_CALL_SECONDS)
        return producer

    def _make_markers(self) -> None:
        admin = AdminClient({**self._properties, "log_level": 2})
        if self._markers in admin.list_topics(timeout=_CALL_SECONDS).topics:
            return
        topic = NewTopic(self._markers, num_partitions=1, config={"cleanup.policy": "compact"})
        try:
            for made in admin.create_topics([topic], request_timeout=_CALL_SECONDS).values():
                made.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise

    def _read_markers(self) -> Iterator[tuple[str, int]]:
        """Each marker's key, and when it was written, ms since 1970."""
        settings: dict[str, str | int | bool] = {
            **self._properties,
            "group.id": self._markers,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "log_level": 2,
        }
        with closing(Consumer(settings)) as consumer:
            partitions = set(
                consumer.list_topics(self._markers, timeout=_CALL_SECONDS).topics[self._markers].partitions
            )
            consumer.assign([TopicPartition(self._markers, number, 0) for number in partitions])
            last_heard = self._clock()
            while partitions:
                messages = consumer.consume(_POLLED, timeout=_POLL_SECONDS)
                last_heard = self._clock() if messages else last_heard
                if self._clock() - last_heard > _CALL_SECONDS:
                    raise TransientError(f"Kafka does not give what {self._markers} holds")
                for message in messages:
                    error = message.error()
                    if error is None:
                        yield (message.key() or b"").decode(), message.timestamp()[1]
                    elif error.code() == KafkaError._PARTITION_EOF:
                        partitions.discard(message.partition())
                    else:
                        raise KafkaException(error)


def _marker(place: Place) -> str:
    """The key that says of a letter that it was sent."""
    return f"{place.id}:{_kafka_ms(place)}"


def _is_marked(place: Place, written_ms: Mapping[str, int]) -> bool:
    """Whether its marker is there, or that of an earlier release, whose key was the id alone.

    Such a one, if it is older than the message, tells of a message that had this place before the topic was made again.
    """
    return _marker(place) in written_ms or written_ms.get(str(place.id), -1) >= _kafka_ms(place)


def _kafka_ms(place: Place) -> int:
    return place.kafka_us // 1000


@contextmanager
def _transaction(producer: Producer) -> Iterator[None]:
    """Commit what is produced inside; end it at once when that fails, since readers wait for the end."""
    producer.begin_transaction()
    try:
        yield
        producer.commit_transaction(_CALL_SECONDS)
    except BaseException as failure:
        try:
            producer.abort_transaction(_CALL_SECONDS)
        except KafkaException as why:  # the broker ends it by itself
            if isinstance(failure, KafkaException) and failure.args[0].code() == KafkaError._FATAL:
                raise why from failure  # what produces within says only that it can no more
        raise


@contextmanager
def _translated(topic: str) -> Iterator[None]:
    try:
        yield
    except KafkaException as error:
        found = error.args[0]
        if found.code() in _FENCED:
            raise PermanentError(
                "another run of dead-letters has taken over; what this one had not finished was not sent"
            ) from error
        raise TransientError(f"Kafka did not take letters for {topic}: {found.str()}") from error
