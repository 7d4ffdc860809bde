"""What the stack says about itself before anything runs."""

import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock
from jobs import stack as stack_command
from jobs.benchmark import without_services
from tests.e2e.support.processes import await_that

from engagement.embedded.connect import CONNECTOR_FILE, Connect
from engagement.embedded.demo_jobs import job_spec
from engagement.embedded.kafka import Kafka, write_properties
from engagement.embedded.process import Supervised
from engagement.embedded.redis import Redis
from engagement.embedded.service import Service
from engagement.embedded.site import LOOPBACK, Site
from engagement.embedded.stack import Stack
from engagement.errors import StackError
from engagement.settings import Settings, SettingsFiles, resolve

PROJECT = Path(__file__).resolve().parents[2]
ESCAPE = re.compile(r"\\u([0-9a-f]{4})|\\(.)|.")
"""One UTF-16 unit of a value in a properties file."""


def test_a_variable_of_the_caller_wins_and_its_service_is_external(tmp_path: Path) -> None:
    stack = Stack(tmp_path, {"REDIS_URL": "redis://elsewhere:1/0", "LAKE_PATH": "/data/lake"})
    assert stack.env()["REDIS_URL"] == "redis://elsewhere:1/0"
    assert stack.env()["LAKE_PATH"] == "/data/lake"
    assert {status.name: status.state for status in stack.status()}["redis"] == "external"


def external(stack: Stack) -> set[str]:
    return {status.name for status in stack.status() if status.state == "external"}


@pytest.mark.parametrize(
    ("environment", "files", "home", "brought"),
    [
        ({}, {}, ".engagement", set()),
        ({"ENGAGEMENT_HOME": "elsewhere"}, {}, "elsewhere", set()),
        ({}, {"conf/local.yaml": "ENGAGEMENT_HOME: elsewhere\n"}, "elsewhere", set()),
        ({}, {".env": "ENGAGEMENT_HOME=else${HOME}where\n"}, "else${HOME}where", set()),
        ({}, {".env": "REDIS_URL=redis://:a${HOME}b@cache:6379/0\n"}, ".engagement", {"redis"}),
        ({"DATABASE_URL_FILE": "url"}, {"url": "postgresql://me:pw@db/app\n"}, ".engagement", {"postgres"}),
        ({}, {"conf/prod.yaml": "KAFKA_CONNECT_URL: http://connect:8083\n"}, ".engagement", set()),
        (
            {"ENGAGEMENT_CONFIG": "prod"},
            {"conf/prod.yaml": "KAFKA_BOOTSTRAP_SERVERS: a:9092\nEXTERNAL_SYSTEM_URL: https://partner/\n"},
            ".engagement",
            {"kafka", "receiver"},
        ),
        ({"REDIS_URL": "redis://mine/0"}, {".env": "REDIS_URL=redis://theirs/0\n"}, ".engagement", {"redis"}),
        ({}, {".engagement/stack.env": "REDIS_URL=redis://127.0.0.1:6379/0\n"}, ".engagement", set()),
    ],
)
def test_the_stack_lies_and_takes_over_what_every_command_is_told(
    tmp_path: Path, environment: dict[str, str], files: dict[str, str], home: str, brought: set[str]
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    told = resolve(environment, SettingsFiles(tmp_path))
    stack = Stack.of(told.settings, told.origins)
    assert (stack.home, external(stack)) == (tmp_path / home, brought)
    again = resolve({**environment, **stack.env()}, SettingsFiles(tmp_path))
    for service in brought:
        assert addresses(again.settings)[service] == addresses(told.settings)[service]


def addresses(settings: Settings) -> dict[str, object]:
    return {
        "postgres": settings.postgres.database_url,
        "kafka": settings.kafka.bootstrap_servers,
        "redis": settings.redis.url,
        "receiver": settings.external.url,
    }


def test_the_command_says_what_is_wrong_and_what_is_the_callers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".env").write_text("REDIS_URL=redis://cache:6379/0\n")
    assert stack_command.main(["status"], {}, SettingsFiles(tmp_path)) == 1
    said = capsys.readouterr()
    assert "as REDIS_URL says" in said.out
    assert "warning: REDIS_URL is redis:// to another machine" in said.err
    assert stack_command.main(["status"], {"ENGAGEMENT_CONFIG": "prod"}, SettingsFiles(tmp_path)) == 2
    assert "there is no file" in capsys.readouterr().err


def test_a_benchmark_in_a_shell_that_has_the_stacks_settings_runs_on_services_of_its_own(tmp_path: Path) -> None:
    theirs = {**Stack(tmp_path, {}).env(), **REAL_PROJECT, "DATABASE_URL_FILE": "url"}
    own = without_services({**theirs, "LOG_LEVEL": "DEBUG"}, tmp_path / "benchmark")
    assert own == {"LOG_LEVEL": "DEBUG", "ENGAGEMENT_HOME": str(tmp_path / "benchmark")}


REAL_PROJECT = {"BIGQUERY_PROJECT_ID": "my-project", "GOOGLE_APPLICATION_CREDENTIALS": "/etc/key.json"}


@pytest.mark.parametrize(
    ("brought", "told"),
    [
        ({"BIGQUERY_EMULATOR_HOST": "emulator:9050"}, {"BIGQUERY_EMULATOR_HOST": "emulator:9050"}),
        (REAL_PROJECT, REAL_PROJECT),
    ],
)
def test_an_emulator_or_a_real_project_of_the_caller_stands_in_for_ours(
    tmp_path: Path, brought: dict[str, str], told: dict[str, str]
) -> None:
    stack = Stack(tmp_path, brought)
    assert {name: value for name, value in stack.env().items() if name.startswith(("BIGQUERY", "GOOGLE"))} == told
    (status,) = (status for status in stack.status() if status.name == "bigquery")
    assert (status.state, status.detail, status.address) == ("external", "", f"as {next(iter(brought))} says")


def test_a_project_without_credentials_is_the_emulators(tmp_path: Path) -> None:
    stack = Stack(tmp_path, {"BIGQUERY_PROJECT_ID": "my-project"})
    assert stack.env()["BIGQUERY_PROJECT_ID"] == "my-project"
    assert {status.name: status.state for status in stack.status()}["bigquery"] == "stopped"


def test_a_receiver_of_the_caller_gets_neither_token_nor_secret_of_ours(tmp_path: Path) -> None:
    stack = Stack(tmp_path, {"EXTERNAL_SYSTEM_URL": "https://partner/events"})
    told = {name: value for name, value in stack.env().items() if name.startswith("EXTERNAL")}
    assert told == {"EXTERNAL_SYSTEM_URL": "https://partner/events"}
    assert {status.name: status.state for status in stack.status()}["receiver"] == "external"


def test_env_names_every_setting_that_the_jobs_need(tmp_path: Path) -> None:
    wanted = {
        "DATABASE_URL",
        "KAFKA_BOOTSTRAP_SERVERS",
        "KAFKA_CONNECT_URL",
        "REDIS_URL",
        "BIGQUERY_PROJECT_ID",
        "BIGQUERY_DATASET_ID",
        "BIGQUERY_EMULATOR_HOST",
        "BIGQUERY_EMULATOR_GRPC_HOST",
        "EXTERNAL_SYSTEM_URL",
        "EXTERNAL_SYSTEM_TOKEN",
        "EXTERNAL_SYSTEM_SIGNING_SECRET",
        "LAKE_PATH",
        "CHECKPOINT_PATH",
    }
    assert wanted <= set(Stack(tmp_path, {}).env())


def test_env_lines_survive_a_shell_even_with_spaces_in_the_path(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "my files", {})
    script = f'{stack.env_lines()}\nprintf %s "$LAKE_PATH"'
    answer = subprocess.run(["/bin/bash", "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout == str(tmp_path / "my files" / "lake")
    assert shlex.quote(answer.stdout) in stack.env_lines()


DEMO = """
import sys
from pathlib import Path

from engagement.embedded.stack import Stack

with Stack(Path(sys.argv[1]), {}, names=()).kept_by_demo():
    print("begun", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def demo(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that keeps the stack as a demo does; its jobs are the test's."""
    command, env, pipe = [sys.executable, "-c", DEMO, str(tmp_path)], {"PYTHONPATH": "lib"}, subprocess.PIPE
    with subprocess.Popen(command, env=env, cwd=PROJECT, text=True, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        yield process
        process.kill()


@contextmanager
def streaming(home: Path) -> Iterator[Supervised]:
    """What stands for a demo's streaming job."""
    spec = replace(
        job_spec("stream", (), home, {}),
        command=(sys.executable, "-c", "import time; time.sleep(600)"),
        stop_seconds=5,
    )
    job = Supervised("stream", spec.pid_file)
    job.start(spec, lambda: True, 5)
    try:
        yield job
    finally:
        job.stop(spec)


@pytest.mark.parametrize("purge", [False, True])
def test_nothing_is_ended_or_removed_beside_a_running_demo_until_that_is_killed(
    tmp_path: Path, demo: "subprocess.Popen[str]", purge: bool
) -> None:
    (tmp_path / "lake").mkdir()
    with streaming(tmp_path) as job:
        with pytest.raises(StackError, match=r"demo: one runs in .*\n.*Ctrl-C"):
            Stack(tmp_path, {}, names=()).down(purge=purge)
        assert job.process() is not None
        assert (tmp_path / "lake").is_dir()
        demo.kill()
        demo.wait()
        Stack(tmp_path, {}, names=()).down(purge=purge)
        assert job.process() is None
        assert tmp_path.exists() != purge


def test_a_second_demo_is_refused_and_may_run_when_the_first_has_ended(
    tmp_path: Path, demo: "subprocess.Popen[str]"
) -> None:
    second = Stack(tmp_path, {}, names=())
    with pytest.raises(StackError, match="demo: one runs in"), second.kept_by_demo():
        pass
    demo.communicate()
    with second.kept_by_demo():
        second.down(purge=True)  # as only the demo itself may
    assert not tmp_path.exists()


@pytest.mark.parametrize("purge", [False, True])
def test_jobs_that_a_killed_demo_has_left_are_ended_before_anything_is_removed(tmp_path: Path, purge: bool) -> None:
    said = list[str]()
    with streaming(tmp_path) as left:
        running = left.process()
        Stack(tmp_path, {}, names=()).down(purge=purge, progress=said.append)
        assert running is not None
        assert not running.is_running()
        assert said == ["stream: stopped"]
        assert not job_spec("stream", (), tmp_path, {}).pid_file.exists()


class Interrupted(Redis):
    """A service whose preparing ends only after its start was given up."""

    def prepare(self) -> None:
        super().prepare()
        self.site.cancelled.set()


def test_a_service_that_was_still_preparing_when_its_start_was_given_up_is_not_started(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="its start was given up"):
        Stack(tmp_path, {}, kinds=(Interrupted,)).up()
    assert (tmp_path / "redis").is_dir()
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("folder", ["plain", "my files", "مشروع", "𝄞 back\\slash"])
def test_what_java_reads_out_of_a_properties_file_is_what_was_meant(tmp_path: Path, folder: str) -> None:
    write_properties(tmp_path / "some.properties", {"log.dirs": f"/home/{folder}"})
    text = (tmp_path / "some.properties").read_bytes().decode("latin-1")  # as Properties.load does
    value = text.removeprefix("log.dirs=").removesuffix("\n")
    units = [int(found[1], 16) if found[1] else ord(found[2] or found[0]) for found in ESCAPE.finditer(value)]
    assert b"".join(unit.to_bytes(2, "big") for unit in units).decode("utf-16-be") == f"/home/{folder}"


@pytest.mark.parametrize("kind", [Kafka, Connect])
def test_java_gets_a_locale_in_which_it_can_open_any_folder(tmp_path: Path, kind: type[Service]) -> None:
    assert kind(Site(tmp_path, {})).spec().env["LANG"] == "C.UTF-8"


def test_passwords_stay_the_same_and_private(tmp_path: Path) -> None:
    first = Site(tmp_path, {}).secret("redis_password")
    assert Site(tmp_path, {}).secret("redis_password") == first
    assert (tmp_path / "secrets" / "stack.properties").stat().st_mode & 0o777 == 0o600


def test_a_port_that_is_taken_is_replaced_and_the_new_one_remembered(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        usual = taken.getsockname()[1]
        site = Site(tmp_path, {})
        chosen = site.choose_port("redis", usual)
        site.release_ports()
    assert chosen != usual
    assert Site(tmp_path, {}).port("redis", usual) == chosen


def test_two_stacks_that_start_at_once_get_different_ports(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as briefly:
        usual = briefly.getsockname()[1]
    one, two = Site(tmp_path / "one", {}), Site(tmp_path / "two", {})
    ports = {one.choose_port("redis", usual), two.choose_port("redis", usual)}
    one.release_ports()
    two.release_ports()
    assert len(ports) == 2


def test_the_port_of_a_killed_service_is_kept_for_it_while_its_stack_is_up(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as briefly:
        usual = briefly.getsockname()[1]
    one = Site(tmp_path / "one", {})
    for is_up in (True, False):
        two = Site(tmp_path / f"two {is_up}", {})
        assert one.choose_port("redis", usual) == usual  # whoever was told of it finds the service there again
        (env_file := Stack(one.home, {}).env_file).touch()
        one.release_ports()
        if not is_up:
            env_file.unlink()
        assert (two.choose_port("kafka", usual) == usual) != is_up
        if is_up:  # also while the other one still starts
            assert one.choose_port("redis", usual) == usual
            one.release_ports()
        two.release_ports()


def test_a_port_reserved_in_one_thread_is_free_after_another_released_it(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as briefly:
        usual = briefly.getsockname()[1]
    site = Site(tmp_path, {})
    for _ in range(2):
        starting = threading.Thread(target=site.choose_port, args=("postgres", usual))
        starting.start()
        starting.join()
        site.release_ports()
        assert site.port("postgres", 0) == usual


def test_a_port_that_is_held_for_a_moment_longer_is_kept(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        (tmp_path / "ports.json").write_text(json.dumps({"postgres": port}))
        site = Site(tmp_path, {})
        releasing = threading.Timer(0.3, held.close)
        releasing.start()
        assert site.choose_port("postgres", port) == port
        releasing.join()
        site.release_ports()


def test_the_connector_holds_a_reference_to_the_password_and_never_the_password(tmp_path: Path) -> None:
    site = Site(tmp_path, {})
    password = site.secret("debezium_password")
    settings = Connect(site).connector()
    assert settings["database.password"] == f"${{file:{site.secrets_file}:debezium_password}}"
    assert password not in json.dumps(settings)


def test_a_database_of_the_caller_is_what_the_connector_reads(tmp_path: Path) -> None:
    settings = Connect(Site(tmp_path, {"DATABASE_URL": "postgresql://me:s%40fe@db.example:6543/shop"})).connector()
    assert (settings["database.hostname"], settings["database.port"]) == ("db.example", "6543")
    assert (settings["database.dbname"], settings["database.user"]) == ("shop", "me")
    assert "s@fe" not in json.dumps(settings)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("exactly.once.support", "required"),
        ("publication.autocreate.mode", "disabled"),
        ("snapshot.mode", "initial"),
        ("skipped.operations", "none"),
        ("key.converter", "org.apache.kafka.connect.storage.StringConverter"),
        ("value.converter.schemas.enable", "false"),
        ("producer.override.max.request.size", str(16 * 1024 * 1024)),
    ],
)
def test_the_connector_keeps_the_promises_of_the_topic(setting: str, value: str) -> None:
    assert json.loads(CONNECTOR_FILE.read_text())[setting] == value


def test_who_waits_while_another_purges_the_home_comes_next(tmp_path: Path) -> None:
    """Two benchmarks, say: the second begins while the first removes what was its own, and then the empty folder."""
    stack, failed = Stack(tmp_path / "home", {}), list[OSError]()
    stack.home.mkdir()

    def comes() -> None:
        try:
            stack.down(purge=True)
        except OSError as error:  # the test's own thread has to know
            failed.append(error)

    def is_waiting(thread: threading.Thread) -> bool:
        begun = sys._current_frames().get(thread.ident or 0)
        return begun is not None and any(frame.f_code.co_name == "acquire" for frame, _ in traceback.walk_stack(begun))

    with FileLock(stack.home / "stack.lock"):
        waits = threading.Thread(target=comes)
        waits.start()
        await_that(lambda: is_waiting(waits), 10, "it does not wait for its turn")
        shutil.rmtree(stack.home)
    waits.join(10)
    assert (waits.is_alive(), failed) == (False, [])


def test_a_purge_leaves_nothing_of_what_jobs_have_noted(tmp_path: Path) -> None:
    """Or a backfill of a new stack would go on with that of the old one."""
    for name in ("backfill", "checkpoints", "lake", "logs"):
        (tmp_path / name).mkdir()
    Stack(tmp_path, {}, names=()).down(purge=True)
    assert not tmp_path.exists()
