"""The probe of Kafka against a real broker: what readers stand before, and where partitions end."""

from collections.abc import Iterator

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from tests.contract.api_running import eventually

from engagement.monitoring.health import HealthStatus, Reading
from engagement.monitoring.source_probes import HEARTBEAT_TOPIC, KafkaProbe

pytestmark = pytest.mark.timeout(120)

TOPIC = "probed-events"


class Watch:
    """A probe of a topic of two partitions, and the time that it goes by."""

    def __init__(self, broker: str) -> None:
        self.now = 0.0
        self.probe = KafkaProbe({"bootstrap.servers": broker}, TOPIC, lambda: self.now)
        self.committing = Producer({"bootstrap.servers": broker, "transactional.id": "open"})
        self.plain = Producer({"bootstrap.servers": broker})

    def write(self, producer: Producer, partition: int, topic: str = TOPIC) -> None:
        producer.produce(topic, b"{}", partition=partition)
        assert producer.flush(10) == 0

    def commit(self) -> None:
        """The broker notes it a moment after it has answered."""
        self.committing.commit_transaction()
        self.now += 1
        eventually(lambda: self.kafka.measured[0].value == 0.0)

    def readings(self) -> dict[str, Reading]:
        return {reading.component: reading for reading in self.probe.check()}

    @property
    def kafka(self) -> Reading:
        return self.readings()["kafka"]


@pytest.fixture(scope="module")
def watch(broker: str) -> Iterator[Watch]:
    admin = AdminClient({"bootstrap.servers": broker})
    for made in admin.create_topics([NewTopic(TOPIC, num_partitions=2, replication_factor=1)]).values():
        made.result()
    watch = Watch(broker)
    watch.committing.init_transactions()
    yield watch
    watch.probe.close()


def test_a_transaction_that_is_left_open_is_told_of_and_over_once_it_ends(watch: Watch) -> None:
    watch.write(watch.plain, 0)
    watch.committing.begin_transaction()
    watch.write(watch.committing, 1)
    assert watch.kafka.status is HealthStatus.HEALTHY
    watch.now += 61
    watch.write(watch.plain, 0)  # what other partitions bring does not hide it
    watch.write(watch.plain, 1)  # and nothing that comes behind it is read
    held = watch.kafka
    assert (held.status, held.critical) == (HealthStatus.DEGRADED, True)
    assert held.reason.startswith("a transaction has been open for 61 s")
    assert [(one.metric, one.value) for one in held.measured] == [("engagement_open_transaction_seconds", 61.0)]
    watch.commit()
    assert watch.kafka.status is HealthStatus.HEALTHY


def test_one_transaction_after_the_other_holds_nobody_up(watch: Watch) -> None:
    for _ in range(3):
        watch.committing.begin_transaction()
        watch.write(watch.committing, 1)
        assert watch.kafka.status is HealthStatus.HEALTHY
        watch.commit()
        watch.now += 40


def test_whatever_the_connector_writes_is_its_pulse(watch: Watch) -> None:
    watch.write(watch.plain, 0)  # whatever time has passed in the tests before
    watch.readings()
    for topic, partition in ((TOPIC, 1), (HEARTBEAT_TOPIC, 0)):
        watch.now += 20
        assert watch.readings()["source"].status is HealthStatus.DEGRADED
        watch.write(watch.plain, partition, topic)
        assert watch.readings()["source"].status is HealthStatus.HEALTHY
