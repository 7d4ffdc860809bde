import contextlib
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement.errors import ConfigError
from engagement.logs import redact
from engagement.settings import (
    BigQuerySettings,
    SettingsFiles,
    config_lines,
    declared_settings,
    load_settings,
    resolve,
    secret_values,
)
from engagement.settings.show import reference_lines

PROJECT = Path(__file__).resolve().parents[2]
NOWHERE = SettingsFiles(Path("/nonexistent/project"))

# Every setting the README promises, name by name; KAFKA_SECURITY_* are in test_settings_kafka.py.
PROMISED = """
DATABASE_URL DB_POOL_SIZE DB_MAX_OVERFLOW
KAFKA_BOOTSTRAP_SERVERS KAFKA_TOPIC_ENGAGEMENT_EVENTS KAFKA_CONSUMER_GROUP_ID KAFKA_AUTO_OFFSET_RESET
KAFKA_ENABLE_AUTO_COMMIT KAFKA_SESSION_TIMEOUT_MS KAFKA_MAX_POLL_RECORDS KAFKA_CONNECT_URL
REDIS_URL REDIS_DB REDIS_MAX_CONNECTIONS REDIS_SOCKET_KEEPALIVE REDIS_AGGREGATION_WINDOW_MINUTES
REDIS_TOP_CONTENT_KEY REDIS_TOP_CONTENT_SIZE REDIS_AGGREGATION_TTL_SECONDS REDIS_EVENT_TTL_SECONDS
GOOGLE_APPLICATION_CREDENTIALS BIGQUERY_PROJECT_ID BIGQUERY_DATASET_ID BIGQUERY_TABLE_ID BIGQUERY_LOCATION
BIGQUERY_BATCH_SIZE BIGQUERY_MAX_BATCH_TIME_SECONDS BIGQUERY_EMULATOR_HOST BIGQUERY_EMULATOR_GRPC_HOST
EXTERNAL_SYSTEM_URL EXTERNAL_SYSTEM_TOKEN EXTERNAL_SYSTEM_SIGNING_SECRET EXTERNAL_SYSTEM_TIMEOUT
EXTERNAL_SYSTEM_RETRY_ATTEMPTS EXTERNAL_SYSTEM_HEADERS EXTERNAL_SYSTEM_MODE EXTERNAL_SYSTEM_BATCH_SIZE
EXTERNAL_SYSTEM_CONCURRENCY EXTERNAL_SYSTEM_INTERVAL_SECONDS EXTERNAL_SYSTEM_RETENTION_DAYS EXTERNAL_SYSTEM_INSTALLATION
EXTERNAL_SYSTEM_ALLOW_PRIVATE EXTERNAL_SYSTEM_CA_FILE
BATCH_SIZE PROCESSING_INTERVAL_SECONDS MAX_PROCESSING_TIME_SECONDS ENABLE_EXACTLY_ONCE
METRICS_PORT LOG_LEVEL ENABLE_HEALTH_CHECKS GENERATION_INTERVAL EVENTS_PER_BATCH MAX_EVENTS_PER_DAY
BACKFILL_BATCH_SIZE BACKFILL_START_DATE BACKFILL_END_DATE LAKE_PATH CHECKPOINT_PATH
CONTENT_REFRESH_SECONDS SPARK_MASTER METRICS_HOST ENGAGEMENT_HOME
""".split()

# A value of each setting that is not its default.
OTHER_VALUES = {
    "DATABASE_URL": "postgresql://me:hunter22@db:5432/app",
    "REDIS_URL": "rediss://:hunter33@cache:6380/7",
    "REDIS_DB": "7",
    "REDIS_TOP_CONTENT_KEY": "top",
    "REDIS_AGGREGATION_WINDOW_MINUTES": "5",
    "KAFKA_BOOTSTRAP_SERVERS": "a:9092,b:9092",
    "KAFKA_TOPIC_ENGAGEMENT_EVENTS": "other-events",
    "KAFKA_AUTO_OFFSET_RESET": "latest",
    "KAFKA_CONNECT_URL": "http://connect:8083",
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SECURITY_SASL_MECHANISM": "PLAIN",
    "BIGQUERY_LOCATION": "EU",
    "BIGQUERY_EMULATOR_HOST": "localhost:9050",
    "BIGQUERY_EMULATOR_GRPC_HOST": "localhost:9061",
    "EXTERNAL_SYSTEM_URL": "https://partner/events",
    "EXTERNAL_SYSTEM_HEADERS": '{"X-Tenant": "radio-seven"}',
    "EXTERNAL_SYSTEM_MODE": "single",
    "EXTERNAL_SYSTEM_SIGNING_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "SPARK_MASTER": "spark://master:7077",
    "METRICS_HOST": "0.0.0.0",  # noqa: S104 - a value, nothing is bound
    "LOG_LEVEL": "debug",
    "LOG_FORMAT": "json",
    "BACKFILL_START_DATE": "2026-01-01",
    "BACKFILL_END_DATE": "2026-02-01",
    "LAKE_PATH": "s3a://bucket/lake",
    "CHECKPOINT_PATH": "/var/checkpoints",
    "ENGAGEMENT_HOME": "/var/engagement",
}


def other_value(name: str, default: object) -> str:
    if name in OTHER_VALUES:
        return OTHER_VALUES[name]
    if name == "ENABLE_EXACTLY_ONCE":
        return "true"
    if isinstance(default, bool):
        return str(not default)
    if isinstance(default, int | float):
        return str(int(default) + 2)
    return "another_value"


def all_other_values() -> dict[str, str]:
    return {item.name: other_value(item.name, item.default) for item in declared_settings()}


def problems(env: Mapping[str, str], files: SettingsFiles = NOWHERE, needs: tuple[str, ...] = ()) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load_settings(env, files, needs)
    return caught.value.problems


@pytest.fixture
def project(tmp_path: Path) -> SettingsFiles:
    (tmp_path / "conf").mkdir()
    (tmp_path / ".engagement").mkdir()
    return SettingsFiles(tmp_path)


def test_every_promised_setting_exists_with_a_meaning() -> None:
    meanings = {item.name: item.meaning for item in declared_settings()}
    assert [name for name in PROMISED if not meanings.get(name)] == []


def test_no_setting_is_declared_twice() -> None:
    names = [item.name for item in declared_settings()]
    assert len(names) == len(set(names))


def test_every_setting_takes_a_value_from_the_environment() -> None:
    changed = load_settings(all_other_values(), NOWHERE)
    plain = load_settings({}, NOWHERE)
    unchanged = [
        item.name
        for item in declared_settings()
        if getattr(getattr(changed, item.section), item.attribute)
        == getattr(getattr(plain, item.section), item.attribute)
    ]
    assert unchanged == ["ENABLE_EXACTLY_ONCE"]


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        (("env", "dotenv", "overlay", "base", "stack"), (6, "environment")),
        (("dotenv", "overlay", "base", "stack"), (7, ".env")),
        (("overlay", "base", "stack"), (8, "conf/local.yaml")),
        (("base", "stack"), (9, "conf/base.yaml")),
        (("stack",), (11, "running stack")),
        ((), (5, "default")),
    ],
)
def test_the_strongest_source_wins(project: SettingsFiles, present: tuple[str, ...], expected: tuple[int, str]) -> None:
    sources = {
        "dotenv": (project.dotenv, "DB_POOL_SIZE=7\n"),
        "overlay": (project.conf / "local.yaml", "DB_POOL_SIZE: 8\n"),
        "base": (project.conf / "base.yaml", "DB_POOL_SIZE: 9\n"),
        "stack": (project.stack_env(".engagement"), "DB_POOL_SIZE=11\n"),
    }
    for name, (path, text) in sources.items():
        if name in present:
            path.write_text(text)
    resolved = resolve({"DB_POOL_SIZE": "6"} if "env" in present else {}, project)
    assert (resolved.settings.postgres.pool_size, resolved.origins["DB_POOL_SIZE"]) == expected


def test_an_overlay_is_chosen_by_name(project: SettingsFiles) -> None:
    (project.conf / "local.yaml").write_text("LOG_LEVEL: DEBUG\n")
    (project.conf / "prod.yaml").write_text("LOG_LEVEL: ERROR\n")
    assert load_settings({"ENGAGEMENT_CONFIG": "prod"}, project).monitoring.log_level == "ERROR"


def test_an_overlay_that_is_not_there_is_an_error(project: SettingsFiles) -> None:
    assert "ENGAGEMENT_CONFIG" in problems({"ENGAGEMENT_CONFIG": "prod"}, project)[0]


def test_a_running_stack_supplies_nothing_to_another_configuration(project: SettingsFiles) -> None:
    (project.conf / "prod.yaml").write_text("BIGQUERY_PROJECT_ID: my-project\nEXTERNAL_SYSTEM_URL: https://partner/\n")
    stack = "BIGQUERY_EMULATOR_HOST=127.0.0.1:9050\nEXTERNAL_SYSTEM_TOKEN=of-the-example-receiver\n"
    project.stack_env(".engagement").write_text(stack)
    prod = load_settings({"ENGAGEMENT_CONFIG": "prod"}, project)
    assert (prod.bigquery.project, prod.bigquery.emulator_host) == ("my-project", "")
    assert prod.external.token.get_secret_value() == ""
    assert load_settings({"ENGAGEMENT_CONFIG": "local"}, project).bigquery.emulator_host == "127.0.0.1:9050"
    assert problems({"ENGAGEMENT_CONFIG": "prod"}, project, ("REDIS_URL",)) == ("REDIS_URL is not set",)


STACK = {
    "DATABASE_URL": "postgresql://engagement:pw@127.0.0.1:5432/engagement",
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9092",
    "KAFKA_TOPIC_ENGAGEMENT_EVENTS": "engagement-events",
    "KAFKA_CONNECT_URL": "http://127.0.0.1:8083",
    "REDIS_URL": "redis://:pw@127.0.0.1:6379/0",
    "BIGQUERY_PROJECT_ID": "engagement",
    "BIGQUERY_DATASET_ID": "engagement",
    "BIGQUERY_EMULATOR_HOST": "127.0.0.1:9050",
    "BIGQUERY_EMULATOR_GRPC_HOST": "127.0.0.1:9060",
    "EXTERNAL_SYSTEM_URL": "http://127.0.0.1:8090/events",
    "EXTERNAL_SYSTEM_TOKEN": "of-the-example-receiver",
    "EXTERNAL_SYSTEM_SIGNING_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
}
OF_THE_RECEIVER = {name for name in STACK if name.startswith("EXTERNAL")}
OF_THE_WAREHOUSE = {name for name in STACK if name.startswith("BIGQUERY")}
OF_KAFKA = {name for name in STACK if name.startswith("KAFKA")}
OWN_PROJECT = {"BIGQUERY_PROJECT_ID": "p", "GOOGLE_APPLICATION_CREDENTIALS": "key.json"}


@pytest.mark.parametrize(
    ("brought", "not_the_stacks"),
    [
        ({}, set()),
        ({"EXTERNAL_SYSTEM_URL": "http://127.0.0.1:9999/x"}, OF_THE_RECEIVER),
        ({"EXTERNAL_SYSTEM_URL": STACK["EXTERNAL_SYSTEM_URL"]}, {"EXTERNAL_SYSTEM_URL"}),
        ({"EXTERNAL_SYSTEM_URL": "http://localhost:8090/events"}, {"EXTERNAL_SYSTEM_URL"}),
        ({"EXTERNAL_SYSTEM_TOKEN": "mine"}, {"EXTERNAL_SYSTEM_TOKEN"}),
        ({"EXTERNAL_SYSTEM_URL": ""}, set()),
        (OWN_PROJECT, OF_THE_WAREHOUSE),
        ({"BIGQUERY_EMULATOR_HOST": "127.0.0.1:9999"}, OF_THE_WAREHOUSE),
        ({"BIGQUERY_PROJECT_ID": "p"}, {"BIGQUERY_PROJECT_ID"}),
        ({"GOOGLE_APPLICATION_CREDENTIALS": "key.json"}, set()),
        (
            {**OWN_PROJECT, "BIGQUERY_EMULATOR_HOST": STACK["BIGQUERY_EMULATOR_HOST"]},
            {"BIGQUERY_PROJECT_ID", "BIGQUERY_EMULATOR_HOST"},
        ),
        ({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9999"}, OF_KAFKA),
        ({"KAFKA_BOOTSTRAP_SERVERS": "localhost:9092,"}, {"KAFKA_BOOTSTRAP_SERVERS"}),
        ({"KAFKA_CONNECT_URL": "http://127.0.0.1:9999"}, {"KAFKA_CONNECT_URL"}),
        ({"REDIS_URL": "redis://127.0.0.1:9999/0"}, {"REDIS_URL"}),
        ({"DATABASE_URL": "postgresql://127.0.0.1:9999/app"}, {"DATABASE_URL"}),
    ],
)
@pytest.mark.parametrize("source", ["environment", ".env"])
def test_a_service_of_the_caller_is_told_nothing_that_is_the_running_stacks(
    project: SettingsFiles, source: str, brought: dict[str, str], not_the_stacks: set[str]
) -> None:
    project.stack_env(".engagement").write_text(lines(STACK))
    if source == ".env":
        project.dotenv.write_text(lines(brought))
    origins = resolve(brought if source == "environment" else {}, project).origins
    assert {name for name in STACK if origins[name] != "running stack"} == not_the_stacks
    assert {name for name in STACK if origins[name] == source} == {name for name in brought if brought[name]} & {*STACK}


def test_a_stack_that_runs_beside_the_callers_brokers_keeps_its_connect(project: SettingsFiles) -> None:
    project.dotenv.write_text("KAFKA_BOOTSTRAP_SERVERS='a:9092, b:9092'\n")
    stack = {"KAFKA_BOOTSTRAP_SERVERS": "a:9092,b:9092", "KAFKA_CONNECT_URL": STACK["KAFKA_CONNECT_URL"]}
    project.stack_env(".engagement").write_text(lines(stack))
    assert load_settings({}, project).kafka.connect_url == STACK["KAFKA_CONNECT_URL"]


def lines(values: Mapping[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in values.items())


def test_the_stack_is_found_where_engagement_home_says(project: SettingsFiles) -> None:
    (project.project / "elsewhere").mkdir()
    (project.project / "elsewhere" / "stack.env").write_text("KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:29092\n")
    settings = load_settings({"ENGAGEMENT_HOME": "elsewhere"}, project)
    assert settings.kafka.bootstrap_servers == "127.0.0.1:29092"
    assert settings.paths.checkpoint_path == project.project / "elsewhere" / "checkpoints"
    assert settings.paths.lake_path == str(project.project / "elsewhere" / "lake")


def test_a_dollar_in_a_dotenv_password_is_a_dollar(project: SettingsFiles) -> None:
    project.dotenv.write_text("DATABASE_URL='postgresql://me:a${HOME}b@db/app'\n")
    url = load_settings({}, project).postgres.database_url.get_secret_value()
    assert url == "postgresql://me:a${HOME}b@db/app"


def test_all_problems_are_listed_at_once() -> None:
    found = problems(
        {
            "DB_POOL_SIZE": "0",
            "REDIS_URL": "http://cache",
            "REDIS_TOP_CONTENT_SIZ": "5",
            "EXTERNAL_SYSTEM_TOKEN": "",
            "ENABLE_EXACTLY_ONCE": "false",
            "REDIS_AGGREGATION_TTL_SECONDS": "600",
            "METRICS_PORT": "x",
        },
        needs=("DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS"),
    )
    text = "\n".join(found)
    for name in (
        "DB_POOL_SIZE",
        "REDIS_URL",
        "REDIS_TOP_CONTENT_SIZ ",
        "EXTERNAL_SYSTEM_TOKEN",
        "ENABLE_EXACTLY_ONCE",
        "REDIS_AGGREGATION_TTL_SECONDS",
        "METRICS_PORT",
        "DATABASE_URL is not set",
        "KAFKA_BOOTSTRAP_SERVERS is not set",
    ):
        assert name in text
    assert len(found) == 9


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://me@db/app"),
        ("DATABASE_URL", "postgresql://me:pw@db"),
        ("DATABASE_URL", "postgresql:///app"),
        ("DATABASE_URL", "postgresql://me:changeme@db/app"),
        ("KAFKA_BOOTSTRAP_SERVERS", "broker"),
        ("KAFKA_BOOTSTRAP_SERVERS", "a:9092,b:99999"),
        ("KAFKA_TOPIC_ENGAGEMENT_EVENTS", "two words"),
        ("KAFKA_AUTO_OFFSET_RESET", "none"),
        ("KAFKA_CONNECT_URL", "connect:8083"),
        ("REDIS_URL", "redis://"),
        ("REDIS_URL", "redis://cache:notaport"),
        ("REDIS_URL", "redis://cache/one"),
        ("REDIS_URL", "unix://"),
        ("REDIS_AGGREGATION_WINDOW_MINUTES", "0"),
        ("REDIS_AGGREGATION_WINDOW_MINUTES", "0.7"),
        ("REDIS_TOP_CONTENT_KEY", "content_stats:top"),
        ("EXTERNAL_SYSTEM_URL", "ftp://partner"),
        ("EXTERNAL_SYSTEM_URL", "https://me:pw@partner/events"),
        ("EXTERNAL_SYSTEM_URL", "https://me@partner/events"),
        ("EXTERNAL_SYSTEM_TOKEN", "your-token-here"),
        ("EXTERNAL_SYSTEM_TOKEN", "two\nlines"),
        ("EXTERNAL_SYSTEM_TOKEN", "t\u0142ken"),
        ("EXTERNAL_SYSTEM_HEADERS", '{"X-A": "\u0645"}'),
        ("EXTERNAL_SYSTEM_HEADERS", '{"X-A": " x"}'),
        ("EXTERNAL_SYSTEM_HEADERS", '{"X-A": "x "}'),
        ("EXTERNAL_SYSTEM_URL", "http://partner/events"),
        ("EXTERNAL_SYSTEM_URL", "http://127.evil.example/events"),
        ("EXTERNAL_SYSTEM_URL", "http://127.0.0.1.evil.example/events"),
        ("EXTERNAL_SYSTEM_SIGNING_SECRET", "whsec_c2hvcnQ="),
        ("EXTERNAL_SYSTEM_SIGNING_SECRET", "no base64 at all"),
        ("EXTERNAL_SYSTEM_SIGNING_SECRET", ",".join(["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] * 3)),
        ("EXTERNAL_SYSTEM_HEADERS", "[1]"),
        ("EXTERNAL_SYSTEM_HEADERS", '{"Bad Name": "x"}'),
        ("EXTERNAL_SYSTEM_HEADERS", '{"X-A": "x\\r\\nX-B: y"}'),
        ("EXTERNAL_SYSTEM_HEADERS", '{"Authorization": "x"}'),
        ("LOG_LEVEL", "loud"),
        ("SPARK_MASTER", "mesos://x"),
        ("BACKFILL_START_DATE", "yesterday"),
        ("CHECKPOINT_PATH", "s3a://bucket/checkpoints"),
        ("METRICS_PORT", "65536"),
        ("ENABLE_HEALTH_CHECKS", "maybe"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(name: str, value: str) -> None:
    found = problems({name: value})
    assert len(found) == 1
    assert found[0].startswith(name)


def test_rules_between_settings_are_checked() -> None:
    found = problems(
        {
            "BACKFILL_START_DATE": "2026-02-01",
            "BACKFILL_END_DATE": "2026-02-01",
            "PROCESSING_INTERVAL_SECONDS": "30",
            "MAX_PROCESSING_TIME_SECONDS": "30",
        }
    )
    assert [text.split()[0] for text in found] == ["MAX_PROCESSING_TIME_SECONDS", "BACKFILL_START_DATE"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.0.2", "[::1]"])
def test_events_travel_unencrypted_within_this_machine_only(host: str) -> None:
    url = f"http://{host}:8080/events"
    assert load_settings({"EXTERNAL_SYSTEM_URL": url}, NOWHERE).external.url == url


@pytest.mark.parametrize("url", ["https://partner/events/", "https://partner/?to=a/", "https://partner/%7Eus//"])
def test_the_receivers_address_stays_as_it_was_written(url: str) -> None:
    assert load_settings({"EXTERNAL_SYSTEM_URL": url}, NOWHERE).external.url == url


def test_switching_exactly_once_off_is_refused_with_the_reason() -> None:
    (text,) = problems({"ENABLE_EXACTLY_ONCE": "false"})
    assert "same atomic act" in text


@pytest.mark.parametrize("name", [item.name for item in declared_settings() if item.secret])
@pytest.mark.parametrize("blank", ["", "  "])
def test_an_empty_secret_is_refused(name: str, blank: str) -> None:
    (text,) = problems({name: blank})
    assert text.startswith(f"{name} (from environment): is empty")


def test_an_empty_value_that_is_no_secret_counts_as_not_set() -> None:
    assert load_settings({"DB_POOL_SIZE": "", "EXTERNAL_SYSTEM_URL": ""}, NOWHERE).postgres.pool_size == 5


@pytest.mark.parametrize(("mode", "warnings"), [(0o600, 0), (0o644, 1)])
def test_a_dotenv_with_secrets_that_others_can_read_is_pointed_out(
    project: SettingsFiles, mode: int, warnings: int
) -> None:
    project.dotenv.write_text("EXTERNAL_SYSTEM_TOKEN=abcdef\n")
    project.dotenv.chmod(mode)
    assert len(resolve({}, project).warnings) == warnings


KAFKA_OPEN = "KAFKA_SECURITY_PROTOCOL = PLAINTEXT sends events unencrypted to "
POSTGRES_OPEN = "the password and the data may travel unencrypted; use verify-full"
POSTGRES_UNCHECKED = "the name of who answers is not checked; use verify-full"


@pytest.mark.parametrize(
    ("name", "value", "warning"),
    [
        ("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092, 127.0.0.1:9093,[::1]:9094", ""),
        (
            "KAFKA_BOOTSTRAP_SERVERS",
            "127.0.0.1:9092,a:9092,PLAINTEXT://b:9092",
            f"{KAFKA_OPEN}a:9092, PLAINTEXT://b:9092;",
        ),
        ("REDIS_URL", "redis://localhost:6379/0", ""),
        ("REDIS_URL", "redis://:pw@127.0.0.1:6379/0", ""),
        ("REDIS_URL", "unix:///run/redis.sock", ""),
        ("REDIS_URL", "rediss://cache:6379/0", ""),
        ("REDIS_URL", "redis://:pw@cache:6379/0", "use rediss://"),
        ("DATABASE_URL", "postgresql://me:pw@localhost/app?sslmode=disable", ""),
        ("DATABASE_URL", "postgresql://me@[::1]:5432/app", ""),
        ("DATABASE_URL", "postgresql:///app?host=/run/postgresql", ""),
        ("DATABASE_URL", "postgresql://%2Frun%2Fpostgresql/app", ""),
        ("DATABASE_URL", "postgresql://me@db/app?sslmode=verify-full", ""),
        ("DATABASE_URL", "postgresql://me@db/app", f"its sslmode is prefer: {POSTGRES_OPEN}"),
        ("DATABASE_URL", "postgresql:///app?host=db", f"its sslmode is prefer: {POSTGRES_OPEN}"),
        ("DATABASE_URL", "postgresql://me@db/app?sslmode=disable", f"its sslmode is disable: {POSTGRES_OPEN}"),
        ("DATABASE_URL", "postgresql://me@db/app?sslmode=require", f"its sslmode is require: {POSTGRES_UNCHECKED}"),
        ("DATABASE_URL", "postgresql://me@db/app?sslmode=verify-ca", f"its sslmode is verify-ca: {POSTGRES_UNCHECKED}"),
    ],
)
def test_what_goes_to_another_machine_in_the_open_is_pointed_out(name: str, value: str, warning: str) -> None:
    warnings = resolve({name: value}, NOWHERE).warnings
    assert len(warnings) == bool(warning)
    assert all(warning in told and name.partition("_")[0] in told for told in warnings)


def test_kafka_with_tls_goes_to_other_machines_without_a_warning() -> None:
    assert resolve({"KAFKA_BOOTSTRAP_SERVERS": "a:9092", "KAFKA_SECURITY_PROTOCOL": "SSL"}, NOWHERE).warnings == ()


def test_a_secret_may_be_given_by_a_file(project: SettingsFiles) -> None:
    (project.project / "token").write_text("s3cr3t-token\n")
    settings = load_settings({"EXTERNAL_SYSTEM_TOKEN_FILE": "token"}, project)
    assert settings.external.token.get_secret_value() == "s3cr3t-token"


def test_a_secret_file_that_is_not_there_is_named(project: SettingsFiles) -> None:
    (text,) = problems({"EXTERNAL_SYSTEM_TOKEN_FILE": "token"}, project)
    assert "EXTERNAL_SYSTEM_TOKEN" in text


def test_a_secret_in_a_committed_file_is_refused(project: SettingsFiles) -> None:
    (project.conf / "local.yaml").write_text("EXTERNAL_SYSTEM_TOKEN: abcdef\nDATABASE_URL: postgresql://me:pw@db/app\n")
    assert len(problems({}, project)) == 2


def test_an_address_without_a_password_may_stand_in_a_committed_file(project: SettingsFiles) -> None:
    (project.conf / "local.yaml").write_text("DATABASE_URL: postgresql://me@db/app\n")
    assert load_settings({}, project).postgres.database_url.get_secret_value() == "postgresql://me@db/app"


def test_no_secret_is_quoted_in_a_problem() -> None:
    found = problems(
        {
            "DATABASE_URL": "mysql://me:hunter22@db/app",
            "REDIS_URL": "http://:hunter22@cache",
            "EXTERNAL_SYSTEM_HEADERS": '{"Bad Name": "hunter22"}',
            "EXTERNAL_SYSTEM_TOKEN": " hunter22",
            "EXTERNAL_SYSTEM_URL": "https://me:hunter22@partner/@",
        }
    )
    assert len(found) == 5
    assert "hunter22" not in "\n".join(found)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("DATABASE_URL", "postgresql://me:{}@db:5432/app"),
        ("REDIS_URL", "redis://:{}@cache:6379/0"),
        ("KAFKA_CONNECT_URL", "https://ops:{}@connect:8083"),
        ("EXTERNAL_SYSTEM_URL", "https://ops:{}@partner/events"),
    ],
)
@pytest.mark.parametrize("password", ["hunter/22", "hunter?22", "hunter#22", "hunter[22]", "hunter\u210022"])
def test_no_part_of_a_password_that_breaks_its_address_is_quoted_in_a_problem(
    name: str, address: str, password: str
) -> None:
    (text,) = problems({name: address.format(password)})
    assert text.startswith(name)
    assert "cannot be taken apart: a port is a number" in text
    assert "hunter" not in text
    assert "22" not in text


def test_no_secret_is_shown_by_print_config_or_repr() -> None:
    env = all_other_values()
    resolved = resolve(env, NOWHERE)
    shown = "\n".join(config_lines(resolved)) + repr(resolved.settings)
    assert secret_values(resolved.settings) >= {"hunter22", "hunter33", "another_value", "radio-seven"}
    for secret in ("hunter22", "hunter33", "radio-seven"):
        assert secret not in shown
    assert "postgresql://me:********@db:5432/app" in shown


CARRYING = {
    "KAFKA_CONNECT_URL": "https://ops:hunter44@connect:8083",
    "EXTERNAL_SYSTEM_URL": "https://partner/events?sig=hunter55&token=hunter66&tenant=radio",
}


def test_a_password_in_an_address_that_is_no_secret_is_shown_nowhere() -> None:
    resolved = resolve(CARRYING, NOWHERE)
    lines = "\n".join(config_lines(resolved))
    assert "KAFKA_CONNECT_URL = https://ops:********@connect:8083" in lines
    assert "EXTERNAL_SYSTEM_URL = https://partner/events?sig=********&token=********&tenant=radio" in lines
    assert secret_values(resolved.settings) >= {"hunter44", "hunter55", "hunter66"}
    (refused,) = problems({"KAFKA_CONNECT_URL": "ftp://ops:hunter44@connect?sig=hunter55"})
    assert "hunter" not in refused


def test_a_signature_in_an_address_is_known_as_it_is_written_as_it_is_logged_and_as_it_is_meant() -> None:
    address = "https://partner/hook?sv=1&sig=hunter%2b55%3D&token=hunter+66"
    found = secret_values(resolve({"EXTERNAL_SYSTEM_URL": address}, NOWHERE).settings)
    assert found >= {"hunter%2b55%3D", "hunter%2B55%3D", "hunter+55=", "hunter+66", "hunter 66"}
    logged = "'ConnectTimeoutError()': /hook?sv=1&sig=hunter%2B55%3D&token=hunter+66"
    assert redact(logged, found) == "'ConnectTimeoutError()': /hook?sv=1&sig=********&token=********"


@pytest.mark.parametrize("name", CARRYING)
def test_a_password_in_an_address_of_a_committed_file_is_refused(project: SettingsFiles, name: str) -> None:
    (project.conf / "local.yaml").write_text(f"{name}: {CARRYING[name]}\n")
    (text,) = problems({}, project)
    assert text.startswith(f"{name} (from conf/local.yaml): holds a secret")


@pytest.mark.parametrize(
    ("name", "address", "shown"),
    [
        ("LAKE_PATH", "s3a://bucket/lake", "s3a://bucket/lake"),
        ("LAKE_PATH", "s3a://[me:hunter44@bucket", "********"),
        ("SPARK_MASTER", "k8s://https://cluster:443", "k8s://https://cluster:443"),
        ("SPARK_MASTER", "spark://a:7077,b:7077", "spark://a:7077,b:7077"),
    ],
)
def test_an_address_is_shown_as_it_is_unless_it_carries_a_password_or_cannot_be_taken_apart(
    name: str, address: str, shown: str
) -> None:
    assert f"{name} = {shown}  # environment" in list(config_lines(resolve({name: address}, NOWHERE)))


def test_print_config_shows_every_setting_with_its_origin_and_why_some_do_nothing() -> None:
    lines = list(config_lines(resolve({"DB_POOL_SIZE": "6"}, NOWHERE)))
    assert "DB_POOL_SIZE = 6  # environment" in lines
    assert "DATABASE_URL = (not set)  # default" in lines
    assert [line.split(" = ")[0] for line in lines] == [item.name for item in declared_settings()]
    (auto_commit,) = [line for line in lines if line.startswith("KAFKA_ENABLE_AUTO_COMMIT")]
    assert "no effect" in auto_commit


def test_the_reference_in_base_yaml_is_up_to_date() -> None:
    text = (PROJECT / "conf" / "base.yaml").read_text(encoding="utf-8")
    assert text.splitlines()[2:] == list(reference_lines())


def test_the_example_of_real_services_takes_nothing_from_a_stack_that_is_up(project: SettingsFiles) -> None:
    (project.conf / "prod.yaml").write_text((PROJECT / "conf" / "prod.yaml.example").read_text(encoding="utf-8"))
    project.stack_env(".engagement").write_text("BIGQUERY_EMULATOR_HOST=127.0.0.1:9050\nREDIS_URL=redis://127.0.0.1\n")
    given = {"ENGAGEMENT_CONFIG": "prod", "KAFKA_SECURITY_SASL_PASSWORD": "hunter22"}
    assert "running stack" not in resolve(given, project).origins.values()


def test_the_example_of_real_services_names_every_secret() -> None:
    text = (PROJECT / "conf" / "prod.yaml.example").read_text(encoding="utf-8")
    assert [item.name for item in declared_settings() if item.secret and item.name not in text] == []


def test_the_files_of_this_project_load() -> None:
    settings = load_settings({"ENGAGEMENT_HOME": "/nonexistent/home"}, SettingsFiles(PROJECT))
    assert settings.processing.spark_master == "local[12]"


@given(st.dictionaries(st.sampled_from([item.name for item in declared_settings()]), st.text(max_size=30)))
def test_no_text_in_any_setting_ends_in_anything_but_settings_or_problems(env: dict[str, str]) -> None:
    with contextlib.suppress(ConfigError):
        load_settings(env, NOWHERE)


@pytest.mark.parametrize(
    ("host", "grpc", "expected"),
    [
        ("", "", ""),
        ("emulator:9050", "", "emulator:9060"),
        ("emulator:9050", "other:1", "other:1"),
        ("emulator", "", "emulator:9060"),
    ],
)
def test_the_emulators_write_api_is_found_beside_its_rest_interface(host: str, grpc: str, expected: str) -> None:
    assert BigQuerySettings(emulator_host=host, emulator_grpc_host=grpc).emulator_grpc == expected
