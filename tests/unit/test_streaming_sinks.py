"""Which sinks a job runs: those that were named, else those that have an address; none that another job runs."""

import threading
from pathlib import Path

import pytest

from engagement.delivery.checkpoint import Checkpoint
from engagement.errors import ConfigError, PermanentError
from engagement.settings import BigQuerySettings, ExternalSettings, PathSettings, Settings
from engagement.sinks.external.options import ExternalOptions
from engagement.streaming import SINKS, build, build_job, sinks_to_run
from engagement.streaming.batches import flushes, postings
from engagement.streaming.external import external_options
from engagement.streaming.options import warehouse_options

NOWHERE = Settings()
PARTNER = ExternalSettings(url="https://partner.example/events")
EMULATED = Settings(bigquery=BigQuerySettings(emulator_host="127.0.0.1:9050"), external=PARTNER)
REAL = Settings(bigquery=BigQuerySettings(project_id="a-project"), external=PARTNER)


def test_without_an_address_warehouse_and_external_system_are_left_out() -> None:
    assert sinks_to_run(NOWHERE) == ("redis", "lake")
    assert sinks_to_run(Settings(external=PARTNER)) == ("redis", "external", "lake")


@pytest.mark.parametrize("settings", [EMULATED, REAL])
def test_with_one_all_sinks_run(settings: Settings) -> None:
    assert sinks_to_run(settings) == SINKS


def test_a_warehouse_that_was_asked_for_and_has_no_address_is_an_error() -> None:
    with pytest.raises(ConfigError, match="BIGQUERY_PROJECT_ID or BIGQUERY_EMULATOR_HOST"):
        sinks_to_run(NOWHERE, ("redis", "warehouse"))


def test_an_external_system_that_was_asked_for_and_has_no_address_is_an_error() -> None:
    with pytest.raises(ConfigError, match="EXTERNAL_SYSTEM_URL"):
        sinks_to_run(NOWHERE, ("external",))


def test_what_was_named_runs_and_nothing_else() -> None:
    assert sinks_to_run(NOWHERE, ("lake",)) == ("lake",)
    assert sinks_to_run(EMULATED, ("warehouse",)) == ("warehouse",)


def test_every_setting_of_the_warehouse_reaches_the_sink() -> None:
    settings = BigQuerySettings(
        credentials="key.json", project_id="p", dataset_id="d", table_id="t", location="EU", batch_size=7,
        emulator_host="localhost:1", emulator_grpc_host="localhost:2",
    )  # fmt: skip
    options = warehouse_options(settings)
    assert (options.dataset_id, options.table_path) == ("p.d", "projects/p/datasets/d/tables/t")
    assert (options.credentials_file, options.location) == ("key.json", "EU")
    assert (options.emulator, options.emulator_grpc) == ("localhost:1", "localhost:2")


def test_the_warehouse_is_written_at_so_many_rows_or_after_so_many_seconds() -> None:
    trigger, size = flushes(BigQuerySettings(batch_size=7, max_batch_time_seconds=30))
    assert (trigger, size.least, size.longest_wait_seconds) == (10, 7, 15)
    assert size.spark_options().keys() == {"maxOffsetsPerTrigger", "minOffsetsPerTrigger", "maxTriggerDelay"}


def test_where_no_time_is_left_to_wait_each_look_is_a_flush() -> None:
    trigger, size = flushes(BigQuerySettings(batch_size=7, max_batch_time_seconds=12))
    assert trigger == 10
    assert size.spark_options().keys() == {"maxOffsetsPerTrigger"}


def test_an_emulator_without_a_project_gets_the_embedded_one_s() -> None:
    assert warehouse_options(EMULATED.bigquery).project == "engagement"


def test_every_setting_of_the_external_system_reaches_the_sink() -> None:
    settings = ExternalSettings(
        url="https://partner.example/events", token="t0ken", signing_secret=f"whsec_{'a' * 32},{'b' * 32}",
        headers={"X-Tenant": "radio"}, mode="single", batch_size=7, concurrency=3, timeout_seconds=4.5,
        retry_attempts=2, installation="north", allow_private=True, ca_file="ca.pem",
    )  # fmt: skip
    assert external_options(settings) == ExternalOptions(
        url="https://partner.example/events", token="t0ken", signing_secrets=(f"whsec_{'a' * 32}", "b" * 32),
        headers=(("X-Tenant", "radio"),), mode="single", batch_size=7, lanes=3, timeout_seconds=4.5,
        retry_attempts=2, installation="north", allow_private=True, ca_file="ca.pem",
    )  # fmt: skip
    assert "t0ken" not in repr(external_options(settings))


def test_the_external_system_gets_a_micro_batch_in_every_interval_and_a_backlog_at_once() -> None:
    look, size = postings(ExternalSettings(interval_seconds=5))
    assert (look, size.longest_wait_seconds) == (1, 4)
    assert 1 < size.least < size.most


def test_an_interval_shorter_than_a_look_is_the_look() -> None:
    look, size = postings(ExternalSettings(interval_seconds=0.5))
    assert look == 0.5
    assert size.spark_options().keys() == {"maxOffsetsPerTrigger"}


def test_a_second_driver_is_refused_before_spark_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "prepared_session", lambda *_, **__: pytest.fail("Spark was started"))
    first = Checkpoint(tmp_path, "lake")
    first.lock()
    try:
        with pytest.raises(PermanentError, match="another streaming job is using the checkpoint"):
            build_job(Settings(paths=PathSettings(checkpoint_path=tmp_path)), ("redis", "lake"), (), threading.Event())
    finally:
        first.unlock()
