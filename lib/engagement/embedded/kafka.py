"""Kafka: one KRaft node, broker and controller in one process. No topic appears by accident; we make them here."""

import json
import os
import subprocess
import sys
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import ClassVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from engagement.embedded.jars import jars_root, kafka_classpath
from engagement.embedded.java import find_java
from engagement.embedded.process import ProcessSpec
from engagement.embedded.service import Service
from engagement.embedded.site import LOOPBACK, port_answers
from engagement.errors import StackError
from engagement.project import PROJECT

USUAL_CONTROLLER_PORT = 9093
TOPIC = "engagement-events"
HEARTBEAT_TOPIC = "__debezium-heartbeat.engagement"
PARTITIONS = 3
RETENTION_MS = 7 * 24 * 3600 * 1000
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
FORMAT_SECONDS = 60.0
ADMIN_SECONDS = 10.0
TOPIC_SECONDS = 60.0
# In the C locale Java can open no file whose name, or whose folder's, is not ASCII.
JAVA_ENVIRONMENT = {"PATH": os.defpath, "LANG": "C.UTF-8", "TZ": "UTC"}
LOG_CONFIG = PROJECT / "conf" / "debezium" / "log4j2.properties"
SERVER = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "3",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "3",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    # A killed worker or job is out of its group quickly, and an open transaction of it does not hold readers up long.
    "group.min.session.timeout.ms": "2000",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "message.max.bytes": str(MAX_MESSAGE_BYTES),
    "replica.fetch.max.bytes": str(MAX_MESSAGE_BYTES),
    # One small machine: the stock cleaner alone takes 128 MiB of heap.
    "log.cleaner.dedupe.buffer.size": str(8 * 1024 * 1024),
    "num.network.threads": "2",
    "num.io.threads": "4",
    "num.recovery.threads.per.data.dir": "2",
}


class Kafka(Service):
    """The broker."""

    name: ClassVar[str] = "kafka"
    variable: ClassVar[str] = "KAFKA_BOOTSTRAP_SERVERS"
    usual_port: ClassVar[int] = 9092

    @property
    def topic(self) -> str:
        """The topic of the events."""
        return self.site.env.get("KAFKA_TOPIC_ENGAGEMENT_EVENTS") or TOPIC

    def settings(self) -> dict[str, str]:
        """KAFKA_BOOTSTRAP_SERVERS and the topic."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": f"{LOOPBACK}:{self.port}",
            "KAFKA_TOPIC_ENGAGEMENT_EVENTS": self.topic,
        }

    def prepare(self) -> None:
        """Write its configuration, and format the storage once."""
        port = self.site.choose_port(self.name, self.usual_port)
        controller = self.site.choose_port("kafka_controller", USUAL_CONTROLLER_PORT)
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = {
            **SERVER,
            "log.dirs": str(self.folder / "data"),
            "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller}",
            "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
            "controller.quorum.voters": f"1@{LOOPBACK}:{controller}",
        }
        write_properties(self._config, settings)
        if not (self.folder / "data" / "meta.properties").is_file():
            self._format()

    def spec(self) -> ProcessSpec:
        """Run the broker."""
        heap = ("-Xms128m", "-Xmx384m")
        command = (*java_command(heap), "kafka.Kafka", str(self._config))
        return self.process_spec(command, JAVA_ENVIRONMENT)

    def answers(self) -> bool:
        """Ask for the cluster; a broker that its controller has not let in yet is in no answer."""
        if not port_answers(self.port):
            return False
        try:
            return bool(_admin(self.port).list_topics(timeout=ADMIN_SECONDS).brokers)
        except KafkaException:
            return False

    def settle(self) -> None:
        """Make the topics: a producer would wait for a missing one without a word.

        LogAppendTime: a message's time is when Kafka took it, which "too far in the future" is judged against.
        """
        topics = [
            NewTopic(
                self.topic,
                num_partitions=PARTITIONS,
                replication_factor=1,
                config={
                    "cleanup.policy": "delete",
                    "retention.ms": str(RETENTION_MS),
                    "max.message.bytes": str(MAX_MESSAGE_BYTES),
                    "message.timestamp.type": "LogAppendTime",
                },
            ),
            NewTopic(HEARTBEAT_TOPIC, num_partitions=1, replication_factor=1, config={"retention.ms": "3600000"}),
        ]
        # The client has to outlive the answers: without a name it would be gone before they come.
        admin = _admin(self.port)
        for made in admin.create_topics(
            topics, operation_timeout=TOPIC_SECONDS, request_timeout=TOPIC_SECONDS
        ).values():
            try:
                made.result()
            except KafkaException as refused:
                if refused.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise StackError(self.name, f"a topic could not be made: {refused}", log=self.log) from refused

    @property
    def _config(self) -> Path:
        return self.folder / "server.properties"

    def _format(self) -> None:
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
        command = [*java_command(("-Xmx128m",)), "kafka.tools.StorageTool", "format", "--ignore-formatted"]
        command += ["-t", cluster, "-c", str(self._config)]
        done = subprocess.run(
            command, env=JAVA_ENVIRONMENT, capture_output=True, text=True, timeout=FORMAT_SECONDS, check=False
        )
        if done.returncode != 0:
            raise StackError(self.name, f"its storage could not be formatted:\n{done.stdout}{done.stderr}")


def java_command(heap: tuple[str, ...]) -> tuple[str, ...]:
    """Build the start of a command line for the broker or for Connect: tuned for two cores and little memory."""
    java = find_java(os.environ, Path(sys.prefix))
    if not (jars_root() / "kafka").is_dir():
        raise StackError("kafka", "its jars are not installed", hint="Run: ./spark-submit.sh stack up")
    return (
        str(java),
        *heap,
        "-XX:+UseSerialGC",
        # The optimizing compiler would take from the others, for minutes, more than it ever gives back here.
        "-XX:TieredStopAtLevel=1",
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.awt.headless=true",
        f"-Dlog4j2.configurationFile={LOG_CONFIG.as_uri()}",
        "-cp",
        kafka_classpath(),
    )


def write_properties(path: Path, settings: dict[str, str]) -> None:
    """Write a Java properties file: read as Latin-1, where a backslash and what is not ASCII are escaped as in JSON."""
    path.write_text("".join(f"{name}={json.dumps(value)[1:-1]}\n" for name, value in settings.items()))


def _admin(port: int) -> AdminClient:
    # log_level 0: a broker that is still starting is no news for the terminal.
    return AdminClient({"bootstrap.servers": f"{LOOPBACK}:{port}", "log_level": 0, "socket.timeout.ms": 10_000})
