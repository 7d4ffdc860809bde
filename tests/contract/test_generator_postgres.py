"""The generator's edge against a real PostgreSQL: every row it counts is there, once, whatever breaks."""

import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import date
from pathlib import Path

import psycopg2
import pytest

from engagement.embedded.postgres import Postgres
from engagement.embedded.service import Site
from engagement.errors import EngagementError, PermanentError, TransientError
from engagement.generator import EventFactory, Generator, Request, Traits, make_catalogue
from engagement.generator.postgres import PostgresStore
from engagement.generator.store import Batch
from engagement.settings import SettingsFiles, load_settings

NOW = 1_750_000_000.0
NEVER = threading.Event()


@pytest.fixture(scope="module")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    postgres = Postgres(Site(tmp_path_factory.mktemp("engagement"), {}))
    postgres.up()
    yield postgres.settings()["DATABASE_URL"]
    postgres.stop()
    for folder in postgres.purge_folders():
        shutil.rmtree(folder)


def ask(url: str, sql: str, *values: object) -> int:
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(sql, values)
        row = cursor.fetchone()
        assert row is not None
        return int(row[0])


def count(url: str) -> int:
    return ask(url, "select count(*) from engagement_events")


def end_connections(url: str) -> None:
    """As a restart of the server ends them."""
    ask(
        url,
        "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = %s",
        "engagement-generate",
    )


@pytest.fixture
def batch() -> Batch:
    return Batch(EventFactory(1, traits=Traits(users=50)).events([NOW] * 100))


@pytest.fixture
def store(database_url: str) -> Iterator[PostgresStore]:
    PostgresStore(database_url).add_content(make_catalogue())
    opened = PostgresStore(database_url)
    yield opened
    opened.close()


class CuttingProxy:
    """Passes bytes to PostgreSQL; cuts the connection at the first COMMIT, before or after the server has had it."""

    def __init__(self, target: tuple[str, int], *, deliver_commit: bool) -> None:
        self._target = target
        self._deliver = deliver_commit
        self._cut_done = False
        self._mute = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                threading.Thread(target=self._requests, args=(client, server), daemon=True).start()
                threading.Thread(target=self._answers, args=(client, server), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError), client, server:
            while data := client.recv(65_536):
                if b"COMMIT" in data and not self._cut_done:
                    self._cut_done = True
                    self._mute.set()
                    if self._deliver:
                        server.sendall(data)
                        return  # the answer ends in _answers, which cuts
                    server.shutdown(socket.SHUT_RDWR)
                    return
                server.sendall(data)

    def _answers(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65_536):
                if self._mute.is_set():
                    self._mute.clear()
                    break
                client.sendall(data)
        for side in (client, server):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def cutting(database_url: str) -> Iterator[Callable[[bool], str]]:
    proxies: list[CuttingProxy] = []
    parts = psycopg2.extensions.parse_dsn(database_url)

    def make(deliver_commit: bool) -> str:
        proxies.append(CuttingProxy((parts["host"], int(parts["port"])), deliver_commit=deliver_commit))
        return database_url.replace(f":{parts['port']}/", f":{proxies[-1].port}/")

    yield make
    for proxy in proxies:
        proxy.close()


@pytest.mark.parametrize("deliver_commit", [True, False], ids=["answer lost", "commit lost"])
@pytest.mark.usefixtures("store")
def test_a_commit_without_an_answer_is_in_the_table_once(
    database_url: str, cutting: Callable[[bool], str], batch: Batch, deliver_commit: bool
) -> None:
    before = count(database_url)
    proxied = PostgresStore(cutting(deliver_commit))
    with closing(proxied):
        written = proxied.write(batch, NEVER)
    assert written is not None
    assert count(database_url) - before == 100
    assert ask(database_url, "select count(*) from engagement_events where id = any(%s)", list(written.ids)) == 100
    assert proxied.interruptions == 1


def test_a_connection_that_the_server_ended_is_made_again(
    store: PostgresStore, database_url: str, batch: Batch
) -> None:
    store.write(batch, NEVER)
    before = count(database_url)
    end_connections(database_url)
    assert store.write(batch, NEVER) is not None
    assert count(database_url) - before == 100


def test_what_a_run_says_is_what_the_table_holds(database_url: str) -> None:
    before = count(database_url)
    settings = load_settings({"DATABASE_URL": database_url}, SettingsFiles(Path("/nonexistent/project")))
    request = Request(mode="batch", batch_size=12_000, seed=1, updates_pct=5, deletes_pct=2)
    progress = Generator(settings, request).run(threading.Event())
    assert progress.inserted == 12_000
    assert progress.updated == pytest.approx(600, rel=0.02)
    assert progress.deleted == pytest.approx(240, rel=0.02)
    assert count(database_url) - before == progress.inserted - progress.deleted
    assert ask(database_url, "select count(*) from content") == 5_000


def test_a_stop_that_comes_first_writes_nothing(store: PostgresStore, database_url: str, batch: Batch) -> None:
    before = count(database_url)
    stopped = threading.Event()
    stopped.set()
    assert store.write(batch, stopped) is None
    assert count(database_url) == before


def test_a_wrong_password_is_an_error_and_not_an_endless_wait(database_url: str) -> None:
    password = psycopg2.extensions.parse_dsn(database_url)["password"]
    with pytest.raises(EngagementError, match="cannot connect") as caught:
        PostgresStore(database_url.replace(password, "wrong-canary")).open()
    assert "wrong-canary" not in str(caught.value)


def test_a_database_without_our_tables_is_an_error_that_names_what_it_lacks(database_url: str) -> None:
    store = PostgresStore(database_url.rsplit("/", 1)[0] + "/postgres")
    with closing(store):
        for step in (lambda: store.add_content(make_catalogue()), lambda: store.count_day(date(2026, 11, 23))):
            with pytest.raises(PermanentError, match=r"does not exist.*sql/postgres/schema\.sql"):
                step()


@pytest.mark.usefixtures("store")
def test_a_session_that_may_not_write_is_an_error_that_says_so(database_url: str) -> None:
    reading = PostgresStore(f"{database_url}?options=-c%20default_transaction_read_only%3Don")
    with closing(reading), pytest.raises(PermanentError, match=r"read-only.*a user who may write"):
        reading.add_content(make_catalogue())


def test_a_server_that_restarts_before_the_first_row_is_an_error_that_says_to_start_again(
    store: PostgresStore, database_url: str
) -> None:
    store.open()
    end_connections(database_url)
    with pytest.raises(TransientError, match="start again"):
        store.add_content(make_catalogue())


def test_rows_that_postgresql_refuses_are_an_error(database_url: str) -> None:
    orphan = EventFactory(1, make_catalogue(10, seed=99), Traits(users=5, without_content=0)).events([NOW])
    store = PostgresStore(database_url)
    with closing(store), pytest.raises(PermanentError, match="refused"):
        store.write(Batch(orphan), NEVER)
