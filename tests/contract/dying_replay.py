"""`dead-letters replay` in a process of its own that kills itself, as kill -9 would, where the first argument says."""

import os
import signal
import sys
from typing import Any, NoReturn

from confluent_kafka import Producer
from jobs.dead_letters import COMMAND

from engagement.command import main
from engagement.dead_letters.replay import Replay
from engagement.dead_letters.table import LetterTable
from engagement.dead_letters.topic import ReplayTopic

SECONDS = 10.0
IN_THE_TRANSACTION, BEFORE_THE_MARK = "in the transaction", "before the mark"


def die(*_given: object, **_named: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("it lives")


def produce_and_die(topic: ReplayTopic, producer: Producer, replay: Replay, offsets: dict[Any, int]) -> None:
    """The first message has reached the broker, the transaction is open."""
    producer.produce(topic._topic, replay.value, partition=replay.id.partition)
    producer.flush(SECONDS)
    die(offsets)


if __name__ == "__main__":
    if sys.argv[1] == IN_THE_TRANSACTION:
        ReplayTopic._produce = produce_and_die  # type: ignore[method-assign]
    elif sys.argv[1] == BEFORE_THE_MARK:
        LetterTable.mark = die  # type: ignore[method-assign]
    sys.exit(main(COMMAND, ["replay", *sys.argv[2:]]))
