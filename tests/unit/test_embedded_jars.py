"""The jar sets: what the lock says, and that nothing else is ever used."""

import hashlib
import re
from pathlib import Path

import pytest

from engagement.embedded.jars import LOCK_FILE, STAMP, LockedJar, install, ivy_module, read_lock, verify
from engagement.errors import StackError


def locked(content: bytes = b"jar", file: str = "a-1.jar") -> LockedJar:
    return LockedJar("spark", "org.a:a:1", file, hashlib.sha256(content).hexdigest())


def test_the_committed_lock_holds_three_sets_with_full_checksums_and_no_address() -> None:
    text = LOCK_FILE.read_text()
    jars = read_lock(text)
    assert {jar.set_name for jar in jars} == {"spark", "kafka", "debezium"}
    assert all(re.fullmatch(r"[0-9a-f]{64}", jar.sha256) for jar in jars)
    assert "//" not in text


def test_a_lock_line_with_a_word_missing_is_named() -> None:
    with pytest.raises(StackError, match="line 2"):
        read_lock("# comment\nspark org.a:a:1 a-1.jar\n")


def test_a_file_with_another_checksum_stops_the_set_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "a-1.jar").write_bytes(b"something else")
    with pytest.raises(StackError, match=r"wrong checksum of a-1\.jar"):
        verify([locked()], tmp_path)


def test_a_file_that_did_not_arrive_stops_the_set_and_is_named(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"a-1\.jar .* was not downloaded"):
        verify([locked()], tmp_path)


def test_the_right_file_passes(tmp_path: Path) -> None:
    (tmp_path / "a-1.jar").write_bytes(b"jar")
    verify([locked()], tmp_path)


def test_an_installed_set_is_not_fetched_again(tmp_path: Path) -> None:
    jar = locked()
    (tmp_path / "spark").mkdir()
    (tmp_path / "spark" / STAMP).write_text(hashlib.sha256(jar.line.encode()).hexdigest())
    assert install("spark", [jar], tmp_path) is False


def test_ivy_is_asked_for_exactly_the_locked_files() -> None:
    plugin = LockedJar("debezium", "io.d:c:3.6:plugin", "c-3.6-plugin.tar.gz", "0")
    module = ivy_module("debezium", [plugin])
    assert 'org="io.d" name="c" rev="3.6" transitive="false"' in module
    assert 'ext="tar.gz" m:classifier="plugin"' in module
