"""Letters sent again into a real Kafka by the real command: each once, whatever is killed, whoever else runs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from tests.builders import CONTENT_ID, created, envelope, message, row
from tests.contract.dying_replay import BEFORE_THE_MARK, IN_THE_TRANSACTION
from tests.dead_letters import FIRST, PROJECT, Stored, store

from engagement.dead_letters.letter import Place
from engagement.dead_letters.replay import Replay, Replayer
from engagement.dead_letters.selection import TRANSFORM, Selection
from engagement.dead_letters.table import LetterTable
from engagement.dead_letters.topic import ReplayTopic
from engagement.errors import PermanentError

pytestmark = pytest.mark.timeout(240)

GOOD = created().value or b""
OTHER = created(id=2).value or b""
READ_SECONDS = 30.0


class Bench:
    """A lake with letters, and a topic of its own that they go back to."""

    def __init__(self, broker: str, lake: Path, topic: str) -> None:
        self.broker, self.lake, self.topic = broker, lake, topic
        admin = AdminClient({"bootstrap.servers": broker})
        for made in admin.create_topics([NewTopic(topic, num_partitions=3, replication_factor=1)]).values():
            made.result()

    def store(self, *letters: Stored) -> LetterTable:
        return store(self.lake, [replace(letter, topic=self.topic) for letter in letters])

    def run(self, table: LetterTable) -> tuple[ReplayTopic, Replayer]:
        """A run within this process."""
        topic = ReplayTopic(self.topic, {"bootstrap.servers": self.broker}, time.monotonic)
        return topic, Replayer(table, {TRANSFORM: topic}, "me", lambda: datetime.now(UTC), lambda _tally: None)

    def replay(self, *words: str, dies: str = "") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "tests.contract.dying_replay", dies, *words],
            cwd=PROJECT, env={**os.environ, **self.environment},
            capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PYTHONPATH": f"{PROJECT / 'lib'}{os.pathsep}{PROJECT}",
            "KAFKA_BOOTSTRAP_SERVERS": self.broker,
            "KAFKA_TOPIC_ENGAGEMENT_EVENTS": self.topic,
            "LAKE_PATH": str(self.lake),
            "ENGAGEMENT_HOME": str(self.lake / "home"),
        }

    def messages(self) -> list[Message]:
        """What a reader of committed messages sees."""
        settings = {
            "bootstrap.servers": self.broker, "group.id": "test", "enable.auto.commit": False,
            "enable.partition.eof": True, "isolation.level": "read_committed",
        }  # fmt: skip
        found, left, deadline = [], {0, 1, 2}, time.monotonic() + READ_SECONDS
        with closing(Consumer(settings)) as consumer:
            consumer.assign([TopicPartition(self.topic, number, 0) for number in left])
            while left:
                assert time.monotonic() < deadline, "an open transaction holds readers up"
                for each in consumer.consume(100, timeout=1.0):
                    if each.error() is None:
                        found.append(each)
                    else:
                        left.discard(cast("int", each.partition()))
        return found

    def offsets(self) -> list[int]:
        """The letters that messages of the topic stand for."""
        return sorted(int(dict(each.headers() or [])["engagement.replay_of"]) for each in self.messages())

    def statuses(self) -> set[str]:
        return {letter.status for letter in LetterTable(str(self.lake), PROJECT / "sql").newest(Selection(), 1_000)}


@pytest.fixture
def bench(broker: str, tmp_path: Path) -> Bench:
    return Bench(broker, tmp_path, f"events-{tmp_path.name}")


def test_a_letter_comes_back_as_the_message_it_stands_for(bench: Bench) -> None:
    moved = message(envelope("d", before=row())).value or b""
    bench.store(Stored(GOOD, 7, partition=1), Stored(moved, 8, header_names=("__debezium.newkey", "other")))
    done = bench.replay()
    assert (done.returncode, done.stdout) == (0, "dead-letters: 2 of 2 sent again\n")
    first, second = sorted(bench.messages(), key=lambda each: -cast("int", each.partition()))
    assert (first.partition(), first.key(), first.value()) == (1, CONTENT_ID.encode(), GOOD)
    assert first.headers() == [("engagement.replay_of", b"7")]
    assert second.headers() == [("__debezium.newkey", b"{}"), ("engagement.replay_of", b"8")]
    assert bench.statuses() == {"replayed"}


def test_replaying_twice_has_one_effect(bench: Bench) -> None:
    bench.store(*(Stored(GOOD, n) for n in range(20)))
    assert bench.replay().stdout == "dead-letters: 20 of 20 sent again\n"
    assert bench.replay().stdout == "dead-letters: 0 of 0 sent again\n"
    assert bench.offsets() == list(range(20))


def test_a_message_in_the_place_of_one_that_was_sent_before_the_topic_was_made_again_is_sent(bench: Bench) -> None:
    bench.store(Stored(GOOD, 5))
    assert bench.replay().stdout == "dead-letters: 1 of 1 sent again\n"
    bench.store(Stored(OTHER, 5, later=timedelta(days=2)))
    assert bench.replay().stdout == "dead-letters: 1 of 1 sent again\n"
    assert [each.value() for each in bench.messages()] == [GOOD, OTHER]


def test_markers_of_earlier_releases_tell_of_messages_that_were_there_then(bench: Bench) -> None:
    table = bench.store(Stored(GOOD, 5), Stored(OTHER, 5, later=timedelta(days=2)))
    topic, run = bench.run(table)
    assert topic.sent_before([]) == {}
    producer = Producer({"bootstrap.servers": bench.broker})
    between = int((FIRST + timedelta(days=1)).timestamp() * 1000)
    producer.produce(f"{bench.topic}-replays", b"sent", f"{bench.topic}:0:5:decode".encode(), timestamp=between)
    producer.flush(READ_SECONDS)
    tally = run.run(Selection(statuses=("new",)))
    assert (tally.sent_before, tally.sent) == (1, 1)
    assert [each.value() for each in bench.messages()] == [OTHER]
    assert bench.statuses() == {"replayed"}


@pytest.mark.parametrize("dies", [IN_THE_TRANSACTION, BEFORE_THE_MARK])
def test_after_kill_9_the_next_run_brings_effect_and_status_together(bench: Bench, dies: str) -> None:
    bench.store(*(Stored(GOOD, n) for n in range(5)))
    assert bench.replay(dies=dies).returncode == -signal.SIGKILL
    assert bench.statuses() == {"new"}
    done = bench.replay()
    told = {
        IN_THE_TRANSACTION: "dead-letters: 5 of 5 sent again\n",
        BEFORE_THE_MARK: "dead-letters: 0 of 5 sent again; 5 had been sent before and are noted now\n",
    }
    assert (done.returncode, done.stdout) == (0, told[dies])
    assert bench.offsets() == [0, 1, 2, 3, 4]
    assert bench.statuses() == {"replayed"}


def test_of_two_runs_at_once_the_earlier_sends_nothing_more(bench: Bench) -> None:
    table = bench.store(*(Stored(GOOD, n) for n in range(3)))

    (first, earlier), (_, later) = bench.run(table), bench.run(table)
    assert first.sent_before([]) == {}
    overtaken = False
    send = first.send

    def send_after_the_other(replays: Sequence[Replay]) -> Iterator[tuple[Place, str]]:
        nonlocal overtaken
        overtaken = True
        assert later.run(Selection(statuses=("new",))).sent == 3
        return send(replays)

    first.send = send_after_the_other  # type: ignore[method-assign]
    with pytest.raises(PermanentError, match="taken over"):
        earlier.run(Selection(statuses=("new",)))
    assert overtaken
    assert bench.offsets() == [0, 1, 2]


def test_a_run_that_is_overtaken_while_it_sends_says_so_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client hears of it from the broker, which may be between any two messages."""
    table = bench.store(*(Stored(GOOD, n) for n in range(3)))
    (first, earlier), (_, later) = bench.run(table), bench.run(table)
    produce = first._produce

    def produce_until_it_is_heard(producer: Producer, replay: Replay, offsets: dict[Place, int]) -> None:
        assert later.run(Selection(statuses=("new",))).sent == 3
        while True:
            produce(producer, replay, offsets)

    monkeypatch.setattr(first, "_produce", produce_until_it_is_heard)
    with pytest.raises(PermanentError, match="taken over"):
        earlier.run(Selection(statuses=("new",)))
    assert bench.offsets() == [0, 1, 2]


def test_a_corrected_message_is_judged_before_it_is_sent(bench: Bench, tmp_path: Path) -> None:
    bench.store(Stored(b"{", 3))
    letter, file = f"{bench.topic}:0:3:decode", tmp_path / "fixed.json"
    file.write_bytes(b"{}")
    done = bench.replay("--payload", str(file), letter)
    assert (done.returncode, done.stderr) == (1, "dead-letters: the payload would be refused too: E_ENVELOPE, no row\n")
    file.write_bytes(GOOD)
    assert bench.replay("--payload", str(file), letter).returncode == 0
    assert [each.value() for each in bench.messages()] == [GOOD]


def test_letters_of_another_topic_are_not_sent_to_this_one(bench: Bench) -> None:
    store(bench.lake, [Stored(GOOD, 1, topic="former")])
    done = bench.replay()
    assert done.returncode == 1
    assert done.stdout.startswith("dead-letters: 0 of 1 sent again; 1 are of another topic and stay")
    assert (bench.messages(), bench.statuses()) == ([], {"new"})


def test_brokers_that_are_away_are_a_sentence(bench: Bench) -> None:
    bench.store(Stored(GOOD, 1))
    bench.broker = "127.0.0.1:9"
    done = bench.replay()
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("dead-letters: Kafka did not take letters")
