import pickle
from pathlib import Path

import pytest

from engagement.errors import (
    ConfigError,
    ContractError,
    EngagementError,
    PermanentError,
    PermanentSinkError,
    StackError,
    TransientError,
    TransientSinkError,
)

ERRORS = [
    ConfigError(["A is wrong", "B is missing"]),
    ContractError("column gone"),
    TransientSinkError("redis", "is loading", retry_after=2.5),
    PermanentSinkError("external", "refused 7 rows"),
    StackError("kafka", "port taken", Path("logs/kafka.log"), "stop the other broker"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_error_survives_the_way_from_a_worker_to_the_driver(error: EngagementError) -> None:
    back = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert vars(back) == vars(error)


def test_a_config_error_lists_every_problem() -> None:
    error = ConfigError(["A is wrong", "B is missing"])
    assert error.problems == ("A is wrong", "B is missing")
    assert str(error) == "A is wrong\nB is missing"


def test_a_single_sentence_is_one_problem_and_not_its_letters() -> None:
    assert ConfigError("A is wrong").problems == ("A is wrong",)


def test_sink_errors_tell_whether_another_try_can_help() -> None:
    assert isinstance(TransientSinkError("redis"), TransientError)
    assert isinstance(PermanentSinkError("redis"), PermanentError)
    assert not isinstance(PermanentSinkError("redis"), TransientError)


def test_a_stack_error_names_service_log_and_what_to_do() -> None:
    text = str(StackError("kafka", "port taken", Path("logs/kafka.log"), "stop the other broker"))
    assert text.splitlines() == ["kafka: port taken", "  log: logs/kafka.log", "  stop the other broker"]
