"""When a drain begins: at the topic's ends once nothing more comes in."""

import itertools
import threading

import pytest

from engagement.benchmark.drain import settled
from engagement.errors import TransientError


def test_the_ends_are_those_after_the_last_message() -> None:
    looks = iter([{0: 1}, {0: 2}, {0: 2}, {0: 3}])
    assert settled(lambda: next(looks, {0: 3}), threading.Event(), 0.2, 60) == {0: 3}


def test_a_topic_that_never_settles_is_an_error_and_not_waited_for_for_ever() -> None:
    more = itertools.count()
    with pytest.raises(TransientError, match="messages still come in after 0 s"):
        settled(lambda: {0: next(more)}, threading.Event(), 60, 0.2)


def test_nothing_is_waited_for_when_told_to_stop() -> None:
    stop = threading.Event()
    stop.set()
    assert settled(lambda: {0: 1}, stop, 60, 60) == {0: 1}
