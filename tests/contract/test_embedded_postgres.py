"""The embedded PostgreSQL and what is left of a home that somebody removed by hand."""

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from engagement.embedded.postgres import Postgres
from engagement.embedded.site import Site
from engagement.errors import StackError

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def closed_to_others() -> Iterator[None]:
    """As the root of many servers has it: what is made is nobody else's."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("closed_to_others")
def test_a_strict_umask_does_not_shut_its_user_out(tmp_path: Path) -> None:
    postgres = Postgres(Site(tmp_path / "home", {}))
    try:
        postgres.up()
        assert postgres.answers()
    finally:
        postgres.stop()
        for folder in postgres.purge_folders():
            shutil.rmtree(folder)


def test_data_whose_passwords_are_gone_is_named_at_once_and_kept(tmp_path: Path) -> None:
    home = tmp_path / "engagement home"
    first = Postgres(Site(home, {}))
    try:
        first.up()
        first.stop()
        shutil.rmtree(home / "secrets")
        again = Postgres(Site(home, {}))
        with pytest.raises(StackError, match="another password") as told:
            again.up()
        assert f"rm -r '{again.folder}'" in str(told.value)
        assert not again.is_running()
        assert (again.folder / "data" / "PG_VERSION").is_file()
    finally:
        first.stop()
        for folder in first.purge_folders():
            shutil.rmtree(folder)


def test_no_event_changes_its_id_in_a_database_of_any_age(tmp_path: Path) -> None:
    postgres = Postgres(Site(tmp_path / "home", {}))
    try:
        postgres.up()
        with closing(psycopg2.connect(postgres.settings()["DATABASE_URL"])) as connection:
            connection.autocommit = True
            events = connection.cursor()
            events.execute("insert into engagement_events (event_type, event_ts) values ('click', now())")
            # As a release that knew no trigger left it, and as this one left it.
            for sql in ("drop trigger keep_event_id on engagement_events", "select 1"):
                events.execute(sql)
                postgres.settle()
                events.execute("update engagement_events set id = id, event_type = 'play'")
                with pytest.raises(psycopg2.Error, match="the id of an event cannot change"):
                    events.execute("update engagement_events set id = id + 1")
            events.execute("select id, event_type from engagement_events")
            assert events.fetchall() == [(1, "play")]
    finally:
        postgres.stop()
        for folder in postgres.purge_folders():
            shutil.rmtree(folder)
