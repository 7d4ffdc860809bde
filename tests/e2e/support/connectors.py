"""A second connector beside the stack's, with a slot and a topic of its own."""

from contextlib import closing
from typing import Any

import psycopg2
import requests
from confluent_kafka.admin import AdminClient, NewTopic
from tests.e2e.support.processes import await_that
from tests.e2e.support.world import World

from engagement.embedded.site import Site

_REST_SECONDS = 30
_PARTITIONS = 3
_DROP = "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = %s"


class Connector:
    """Begins with what is committed from now on (`snapshot.mode=no_data`), as a new deployment over history does."""

    def __init__(self, world: World, name: str) -> None:
        self._world, self.name, self.topic = world, name, f"events-{name}"
        self._url = f"{world.env['KAFKA_CONNECT_URL']}/connectors"

    def make_topic(self) -> None:
        """Its topic, as the stack makes its own."""
        admin = AdminClient({"bootstrap.servers": self._world.env["KAFKA_BOOTSTRAP_SERVERS"]})
        config = {"message.timestamp.type": "LogAppendTime"}
        topic = NewTopic(self.topic, num_partitions=_PARTITIONS, replication_factor=1, config=config)
        for made in admin.create_topics([topic]).values():
            made.result()

    def register(self) -> None:
        """Start it and wait until its slot is read."""
        config = dict(requests.get(f"{self._url}/engagement/config", timeout=_REST_SECONDS).json())
        regex = config["transforms.topic.regex"].replace(config["topic.prefix"], self.name, 1)
        config |= {
            "name": self.name,
            "slot.name": self.name,
            "snapshot.mode": "no_data",
            "topic.prefix": self.name,
            "transforms.topic.regex": regex,
            "transforms.topic.replacement": self.topic,
            "predicates.isEvent.pattern": self.topic,
            "heartbeat.interval.ms": "0",
        }
        requests.put(f"{self._url}/{self.name}/config", json=config, timeout=_REST_SECONDS).raise_for_status()
        await_that(self._reads, 90, lambda: str(self._status()))

    def remove(self) -> None:
        """Stop it, drop its slot, and forget where it stood: what is committed from now on, nobody keeps for it."""
        here = f"{self._url}/{self.name}"
        if self._status():  # a test that failed early has registered none
            requests.put(f"{here}/stop", timeout=_REST_SECONDS).raise_for_status()
            await_that(lambda: self._status()["connector"]["state"] == "STOPPED", 60, "it does not stop")
            requests.delete(f"{here}/offsets", timeout=_REST_SECONDS).raise_for_status()
            requests.delete(here, timeout=_REST_SECONDS)
        await_that(lambda: not self._slot_is_active(), 60, "the slot is still read")
        # The tables' owner may not touch slots.
        password = Site(self._world.home, {}).secret("debezium_password")
        with closing(psycopg2.connect(self._world.env["DATABASE_URL"], user="debezium", password=password)) as database:
            database.autocommit = True
            database.cursor().execute(_DROP, (self.name,))

    def _reads(self) -> bool:
        states = [task["state"] for task in self._status().get("tasks", [])]
        return states == ["RUNNING"] and self._slot_is_active()

    def _slot_is_active(self) -> bool:
        with closing(self._world.connect()) as database, database.cursor() as cursor:
            cursor.execute("select active from pg_replication_slots where slot_name = %s", (self.name,))
            return any(active for (active,) in cursor.fetchall())

    def _status(self) -> dict[str, Any]:
        answer = requests.get(f"{self._url}/{self.name}/status", timeout=_REST_SECONDS)
        return dict(answer.json()) if answer.ok else {}
