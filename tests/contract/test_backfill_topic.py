"""What a backfill from Kafka would read, told by a real Kafka."""

from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from jobs.backfill import COMMAND

from engagement.command import main
from engagement.settings import SettingsFiles

pytestmark = pytest.mark.timeout(240)

TOPIC = "history"


def test_a_dry_run_from_kafka_counts_the_messages_of_each_partition(
    broker: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """PostgreSQL has purged it: nobody asks there."""
    admin = AdminClient({"bootstrap.servers": broker})
    admin.create_topics([NewTopic(TOPIC, num_partitions=2, replication_factor=1)])[TOPIC].result()
    producer = Producer({"bootstrap.servers": broker})
    for _ in range(3):
        producer.produce(TOPIC, b"{}", partition=1)
    assert producer.flush(30) == 0
    environment = {
        "DATABASE_URL": "postgresql://nobody:secret@127.0.0.1:1/nothing", "KAFKA_BOOTSTRAP_SERVERS": broker,
        "KAFKA_TOPIC_ENGAGEMENT_EVENTS": TOPIC, "ENGAGEMENT_HOME": str(tmp_path),
    }  # fmt: skip
    words = ["--start-date", "2025-08-01", "--end-date", "2025-08-02", "--source", "kafka", "--dry-run"]
    assert main(COMMAND, words, environment, SettingsFiles(tmp_path)) == 0
    told = capsys.readouterr().out
    assert "partition 0               0 messages at most, offsets 0 to 0, itself excluded\n" in told
    assert "partition 1               3 messages at most, offsets 0 to 3, itself excluded\n" in told
    assert "3 messages at most in 2 partitions, of which those of the range are taken" in told
    assert "would add the row versions that the lake's table lacks, each with the version that it has there" in told
    assert list(tmp_path.iterdir()) == []
