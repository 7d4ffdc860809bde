"""The reader that a drain is compared with, against a real Kafka."""

from contextlib import closing

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from tests.contract.api_running import eventually

from engagement.benchmark.drain import read_rate
from engagement.sources.kafka import KafkaTopic, TopicPositions

pytestmark = pytest.mark.timeout(240)

MESSAGES = 100


def test_the_reader_is_timed_until_the_last_message_and_not_while_it_waits_for_more(broker: str) -> None:
    client = {"bootstrap.servers": broker}
    admin = AdminClient(client)
    admin.create_topics([NewTopic("events", num_partitions=1, replication_factor=1)])["events"].result()
    producer = Producer({**client, "transactional.id": "test"})
    producer.init_transactions(30)
    producer.begin_transaction()
    for number in range(MESSAGES):
        producer.produce("events", str(number).encode())
    producer.commit_transaction(30)
    topic = KafkaTopic("events", broker, "test", client_properties=client)
    with closing(TopicPositions(topic)) as positions:
        # The broker has answered the commit before it moves the end that readers see.
        eventually(lambda: positions.bounds() == {0: (0, MESSAGES + 1)})
    assert read_rate(topic, {0: 0}, {0: MESSAGES + 1}) > MESSAGES  # which took less than a second, that is
