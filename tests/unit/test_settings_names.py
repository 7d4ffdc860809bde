from pathlib import Path

import pytest

from engagement.errors import ConfigError
from engagement.settings import SettingsFiles, declared_settings, load_settings


@pytest.fixture
def project(tmp_path: Path) -> SettingsFiles:
    (tmp_path / "conf").mkdir()
    return SettingsFiles(tmp_path)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("REDIS_MAX_CONNECTION", "REDIS_MAX_CONNECTIONS"),
        ("KAFKA_TOPIC_ENGAGEMENT_EVENT", "KAFKA_TOPIC_ENGAGEMENT_EVENTS"),
        ("DB_POOLSIZE", "DB_POOL_SIZE"),
        ("BIGQUERY_DATASET", "BIGQUERY_DATASET_ID"),
        ("BACKFILL_START", "BACKFILL_START_DATE"),
        ("ENGAGEMENT_HOMES", "ENGAGEMENT_HOME"),
    ],
)
def test_a_misspelt_variable_is_refused_and_the_nearest_name_is_given(
    project: SettingsFiles, name: str, nearest: str
) -> None:
    with pytest.raises(ConfigError, match=f"{name} is no setting; did you mean {nearest}\\?"):
        load_settings({name: "1"}, project)


BEGIN_LIKE_OTHER_PROGRAMS = {
    "BATCH_SIZE",  # anybody's
    "GOOGLE_APPLICATION_CREDENTIALS",  # Google's own, as all of GOOGLE_…
    "LOG_FORMAT",  # anybody's
    "LOG_LEVEL",
    "SPARK_MASTER",  # SPARK_… is Spark's
}


def test_every_setting_is_missed_where_its_name_is_misspelt_in_the_environment(project: SettingsFiles) -> None:
    names = {item.name for item in declared_settings() if "_" in item.name}
    with pytest.raises(ConfigError) as caught:
        load_settings({f"{name}X": "1" for name in names}, project)
    told = {problem.partition("X is no setting")[0] for problem in caught.value.problems}
    assert names - told == BEGIN_LIKE_OTHER_PROGRAMS


@pytest.mark.parametrize(
    "name",
    [
        "PATH",
        "KAFKA_HOME",
        "KAFKA_OPTS",
        "KAFKA_HEAP_OPTS",
        "REDIS_VERSION",
        "REDIS_DOWNLOAD_URL",
        # Kubernetes puts these into every pod of a namespace that has a service called redis.
        "REDIS_PORT",
        "REDIS_SERVICE_HOST",
        "REDIS_SERVICE_PORT",
        "REDIS_PORT_6379_TCP_ADDR",
        "ENGAGEMENT_TEST_SWITCH",
    ],
)
def test_other_programs_variables_are_left_alone(project: SettingsFiles, name: str) -> None:
    load_settings({name: "1"}, project)


def test_a_foreign_variable_can_be_declared_as_such(project: SettingsFiles) -> None:
    env = {"DB_HOST": "x", "REDIS_TLS": "y", "ENGAGEMENT_FOREIGN_VARIABLES": "DB_HOST, REDIS_T*"}
    load_settings(env, project)


def test_a_misspelt_name_in_dotenv_is_refused_even_without_our_prefix(project: SettingsFiles) -> None:
    project.dotenv.write_text("BATCHSIZE=5\nPOSTGRES_PASSWORD=for-compose\n")
    with pytest.raises(ConfigError) as caught:
        load_settings({}, project)
    assert caught.value.problems == (".env: BATCHSIZE is no setting; did you mean BATCH_SIZE?",)


def test_any_unknown_name_in_a_conf_file_is_refused(project: SettingsFiles) -> None:
    (project.conf / "base.yaml").write_text("colour: blue\n")
    with pytest.raises(ConfigError, match=r"conf/base\.yaml: colour is no setting"):
        load_settings({}, project)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n", "just text\n"])
def test_a_conf_file_that_is_no_mapping_is_refused(project: SettingsFiles, text: str) -> None:
    (project.conf / "base.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"conf/base\.yaml"):
        load_settings({}, project)


def test_a_newer_stack_may_say_more_than_we_know(project: SettingsFiles) -> None:
    (project.project / ".engagement").mkdir()
    project.stack_env(".engagement").write_text("KAFKA_SOMETHING_NEW=1\n")
    load_settings({}, project)
