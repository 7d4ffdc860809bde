import io
import json
import logging
import threading
from collections.abc import Iterator

import pytest

from engagement.logs import redact, set_up_logging


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """A set-up log; the logging tree is left as it was found."""
    root, ours = logging.getLogger(), logging.getLogger("engagement")
    before = (list(root.handlers), root.level, ours.level)
    stream = io.StringIO()
    set_up_logging("INFO", {"canary-secret"}, stream, "console")
    yield stream
    root.handlers[:], level, our_level = before
    root.setLevel(level)
    ours.setLevel(our_level)


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("postgresql://me:hunter2@db/app failed", "hunter2"),
        ("redis://:hunter2@cache:6379/0", "hunter2"),
        ("Authorization: Bearer abc.def-ghi", "abc.def-ghi"),
        ('sasl.jaas.config=X required username="a" password="hunter2";', "hunter2"),
        ('{"api_key": "hunter2"}', "hunter2"),
        ("ssl.key.password=hunter2", "hunter2"),
        ("EXTERNAL_SYSTEM_TOKEN=hunter2", "hunter2"),
        ("user_id=0fcf1fb8-8a1b-4d63-a2f3-3f4c2b1a0d9e", "0fcf1fb8"),
        ('{"user_id": "0fcf1fb8-8a1b-4d63-a2f3-3f4c2b1a0d9e"}', "0fcf1fb8"),
        ("client 203.0.113.9 asked", "203.0.113.9"),
        ('connection to server at "db" (2001:db8::5), port 5432 failed', "2001:db8"),
        ("[2001:DB8:0:0:8:800:200C:417A]:6379 refused", "200C:417A"),
        ("from ::ffff:203.0.113.9.", "203.0.113.9"),
        ("fe80::1%eth0 is away", "fe80::1"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----", "MIIE"),
    ],
)
def test_secrets_and_personal_data_are_recognised_by_their_form(text: str, hidden: str) -> None:
    assert hidden not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1:5432 refused",
        "content_id=0fcf1fb8-8a1b-4d63-a2f3-3f4c2b1a0d9e is unknown",
        "lib-ng 1.2.3 at http://localhost:8083/connectors",
        "offset 12345678 of partition 3",
        'connection to server at "localhost" (::1), port 5432 failed',
        "listening on [::]:8080 since 12:34:56, letter engagement-events:0:1234:decode",
    ],
)
def test_what_helps_to_find_a_fault_stays(text: str) -> None:
    assert redact(text) == text


def test_known_secrets_are_hidden_in_message_arguments_and_traceback(log: io.StringIO) -> None:
    error = ValueError("refused canary-secret")
    logging.getLogger("engagement.test").error("sent %s", "canary-secret", exc_info=error)
    assert "canary-secret" not in log.getvalue()
    assert "ValueError" in log.getvalue()


def test_data_cannot_forge_a_line_or_drive_the_terminal(log: io.StringIO) -> None:
    logging.getLogger("engagement.test").warning("title %s", "x\n2026-01-01 ERROR forged\x1b[2J\rmore")
    first, second = log.getvalue().splitlines()
    assert first.endswith("title x")
    assert second == "    2026-01-01 ERROR forged\\x1b[2J\\rmore"


def test_set_up_twice_still_writes_one_line(log: io.StringIO) -> None:
    again = io.StringIO()
    set_up_logging("INFO", (), again, "console")
    logging.getLogger("engagement.test").info("once")
    assert log.getvalue() == ""
    assert len(again.getvalue().splitlines()) == 1


def test_other_libraries_speak_only_when_something_is_wrong(log: io.StringIO) -> None:
    logging.getLogger("py4j").info("chatter")
    logging.getLogger("engagement.test").debug("detail")
    assert log.getvalue() == ""


@pytest.fixture
def lines(log: io.StringIO) -> io.StringIO:
    """As where no terminal is: JSON. The first fixture puts everything back."""
    del log
    stream = io.StringIO()
    set_up_logging("INFO", {"canary-secret"}, stream)
    return stream


def test_a_line_elsewhere_is_one_json_object_with_its_context(lines: io.StringIO) -> None:
    logging.getLogger("engagement.x").warning("slow: %d s", 7, extra={"sink": "lake", "batch_id": 41})
    said = json.loads(lines.getvalue())
    assert (said["message"], said["level"], said["logger"]) == ("slow: 7 s", "WARNING", "engagement.x")
    assert (said["sink"], said["batch_id"]) == ("lake", 41)
    assert said["ts"].endswith("Z")
    assert "query" not in said


def test_a_line_of_a_querys_thread_names_the_query(lines: io.StringIO) -> None:
    log = logging.getLogger("engagement.x")
    thread = threading.Thread(target=log.info, args=("started",), name="query-warehouse")
    thread.start()
    thread.join()
    said = json.loads(lines.getvalue())
    assert (said["query"], said["sink"]) == ("warehouse", "warehouse")


@pytest.mark.parametrize("name", ["redis-keeper", "redis-rebuild_0"])
def test_a_line_of_a_thread_beside_the_query_of_the_board_names_its_sink(lines: io.StringIO, name: str) -> None:
    thread = threading.Thread(target=logging.getLogger("engagement.x").info, args=("swept",), name=name)
    thread.start()
    thread.join()
    said = json.loads(lines.getvalue())
    assert (said["sink"], "query" in said) == ("redis", False)


def test_json_hides_secrets_users_and_addresses_and_no_data_can_forge_a_line(lines: io.StringIO) -> None:
    log = logging.getLogger("engagement.x")
    hostile = 'canary-secret user_id=0fcf1fb8-8a1b from 203.0.113.9\n{"level": "forged"} \u2028 \x1b[31m "'
    try:
        int(hostile)
    except ValueError:
        log.exception("%s", hostile)
    text = lines.getvalue()
    assert text.count("\n") == 1
    assert text.isascii()
    assert not any(secret in text for secret in ("canary-secret", "0fcf1fb8", "203.0.113.9", "\x1b"))
    said = json.loads(text)
    assert said["level"] == "ERROR"
    assert "ValueError" in said["exception"]
