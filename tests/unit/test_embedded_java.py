"""Which Java is taken."""

from pathlib import Path

import pytest

from engagement.embedded.java import find_java, home_of, major_version, proxy_options
from engagement.errors import StackError


def installed(home: Path, version: str) -> Path:
    java = home / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text("")
    java.chmod(0o755)
    (home / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    return java


@pytest.mark.parametrize(
    ("text", "major"),
    [('openjdk version "21.0.8" 2025-07-15', 21), ('java version "1.8.0_402"', 8), ("no such thing", None)],
)
def test_the_major_version_is_read_from_what_java_says(text: str, major: int | None) -> None:
    assert major_version(text) == major


def test_java_home_comes_before_path(tmp_path: Path) -> None:
    mine = installed(tmp_path / "mine", "21.0.1")
    other = installed(tmp_path / "other", "17.0.1")
    assert find_java({"JAVA_HOME": str(tmp_path / "mine"), "PATH": str(other.parent)}, tmp_path) == mine


def test_a_java_home_that_is_too_old_is_passed_over(tmp_path: Path) -> None:
    installed(tmp_path / "old", "1.8.0_402")
    other = installed(tmp_path / "other", "17.0.1")
    assert find_java({"JAVA_HOME": str(tmp_path / "old"), "PATH": str(other.parent)}, tmp_path) == other


def test_the_environments_own_java_is_the_last_resort(tmp_path: Path) -> None:
    own = installed(tmp_path / "java", "21.0.8")
    assert find_java({"PATH": str(tmp_path / "nothing")}, tmp_path) == own


@pytest.mark.parametrize("linked", [False, True])
def test_a_version_managers_script_leads_to_the_java_behind_it(tmp_path: Path, linked: bool) -> None:
    """Spark asks for JAVA_HOME, and services have not the environment that the script needs."""
    own = installed(tmp_path / "installs" / "java-21", "21.0.8")
    shim = tmp_path / "shims" / "java"
    shim.parent.mkdir()
    script = tmp_path / "usr" / "bin" / "manager" if linked else shim
    if linked:  # to a program that goes by the name it is called by, beside another Java
        (installed(tmp_path / "usr", "11.0.2").parents[1] / "release").unlink()
        shim.symlink_to(script)
    script.write_text(
        "#!/bin/sh\n"
        f"[ $# = 1 ] || echo '    java.home = {own.parent.parent}' >&2\n"
        "echo 'openjdk version \"21.0.8\" 2025-07-15' >&2\n"
    )
    script.chmod(0o755)
    found = find_java({"PATH": f"{shim.parent}:/usr/bin:/bin"}, tmp_path)
    assert (found, home_of(found)) == (own, own.parent.parent)


def test_without_java_the_message_says_what_was_looked_at(tmp_path: Path) -> None:
    installed(tmp_path / "old", "11.0.2")
    with pytest.raises(StackError, match=r"no Java 17 or newer.*is version 11"):
        find_java({"JAVA_HOME": str(tmp_path / "old"), "PATH": str(tmp_path / "nothing")}, tmp_path)


@pytest.mark.parametrize(
    ("given", "host", "port"),
    [
        ("http://proxy.example:3128", "proxy.example", 3128),
        ("proxy.example:3128", "proxy.example", 3128),
        ("http://proxy.example/", "proxy.example", 80),
        ("https://proxy.example", "proxy.example", 443),
        ("http://[::1]:8080", "::1", 8080),
    ],
)
@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY"])
def test_java_is_told_of_the_proxy_that_pip_takes(name: str, given: str, host: str, port: int) -> None:
    assert proxy_options({name: given}) == [f"-Dhttps.proxyHost={host}", f"-Dhttps.proxyPort={port}"]


@pytest.mark.parametrize("env", [{}, {"https_proxy": ""}, {"http_proxy": "http://proxy.example:3128"}])
def test_without_a_proxy_java_is_told_of_none(env: dict[str, str]) -> None:
    assert proxy_options(env) == []
