"""The three sets of jars: resolved with the Ivy inside pyspark, verified against conf/jars.lock, kept in the venv.

A set is downloaded into a temporary folder, checked file by file, and renamed into place: half a set cannot be seen.
Afterwards nothing here touches the network. Which jars belong to a set is `jars_lock`'s business.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

from filelock import FileLock

from engagement.embedded.java import find_java, proxy_options
from engagement.errors import StackError
from engagement.project import PROJECT

SETS = ("spark", "kafka", "debezium")
LOCK_FILE = PROJECT / "conf" / "jars.lock"
STAMP = ".lock-sha256"
DOWNLOAD_SECONDS = 600.0
ARCHIVE = "tar.gz"
FILE_PATTERN = "[artifact]-[revision](-[classifier]).[ext]"
# No pom is read (the lock is the resolution) and no remote checksum fetched (ours is stronger): two requests per file.
IVY_SETTINGS = """<ivysettings><settings defaultResolver="central"/><resolvers>
<ibiblio name="central" m2compatible="true" usepoms="false"/></resolvers></ivysettings>"""
Progress = Callable[[str], None]


@dataclass(frozen=True)
class LockedJar:
    """One line of the lock: `set group:artifact:version[:classifier] file sha256`."""

    set_name: str
    coordinates: str
    file: str
    sha256: str

    @property
    def line(self) -> str:
        """The line as it is written in the lock."""
        return f"{self.set_name} {self.coordinates} {self.file} {self.sha256}"


def read_lock(text: str) -> list[LockedJar]:
    """Parse conf/jars.lock; empty lines and lines that start with # are skipped.

    Raises:
        StackError: a line has not four words.

    """
    jars = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        words = line.split()
        if len(words) != 4:  # noqa: PLR2004 - the four words of the docstring above
            raise StackError("jars", f"conf/jars.lock, line {number}: expected set, coordinates, file and sha256")
        jars.append(LockedJar(*words))
    return jars


def verify(jars: Iterable[LockedJar], folder: Path) -> None:
    """Compare every file of a set with its checksum.

    Raises:
        StackError: a file is missing or not the one that was locked; names it.

    """
    for jar in jars:
        path = folder / jar.file
        if not path.is_file():
            raise StackError("jars", f"{jar.file} ({jar.coordinates}) was not downloaded")
        actual = sha256_of(path)
        if actual != jar.sha256:
            raise StackError(
                "jars",
                f"wrong checksum of {jar.file} ({jar.coordinates}): expected {jar.sha256}, got {actual}",
                hint="Nothing was installed. A proxy may have changed the file; if the lock is wrong, see jars --lock.",
            )


def sha256_of(path: Path) -> str:
    """Hash a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def ivy_module(set_name: str, jars: Sequence[LockedJar]) -> str:
    """Write the Ivy file that asks for exactly these files and nothing that they depend on."""
    dependencies = []
    for jar in jars:
        group, artifact, version, *classifier = jar.coordinates.split(":")
        ext = ARCHIVE if jar.file.endswith(f".{ARCHIVE}") else "jar"
        extra = f" m:classifier={quoteattr(classifier[0])}" if classifier else ""
        dependencies.append(
            f'<dependency org={quoteattr(group)} name={quoteattr(artifact)} rev={quoteattr(version)} transitive="false"'
            f' conf="default-&gt;default"><artifact name={quoteattr(artifact)} type="{ext}" ext="{ext}"{extra}/>'
            "</dependency>"
        )
    return (
        '<ivy-module version="2.0" xmlns:m="http://ant.apache.org/ivy/maven">'
        f'<info organisation="engagement" module={quoteattr(set_name)}/><configurations><conf name="default"/>'
        f"</configurations><dependencies>{''.join(dependencies)}</dependencies></ivy-module>"
    )


def run_ivy(module: str, settings: str | None, folder: Path, pattern: str) -> Path:
    """Let Ivy resolve a module and copy its files into `folder / "files"`, named by the pattern.

    Raises:
        StackError: Java, Ivy or the network failed; carries Ivy's last lines.

    """
    classpath = [_only(pyspark_jars(), "ivy-[0-9]*.jar"), _only(pyspark_jars(), "commons-cli-[0-9]*.jar")]
    (folder / "ivy.xml").write_text(module)
    java = str(find_java(os.environ, Path(sys.prefix)))
    command = [java, "-Xmx256m", "-XX:TieredStopAtLevel=1", "-Divy.checksums=", *proxy_options(os.environ)]
    command += ["-cp", os.pathsep.join(map(str, classpath)), "org.apache.ivy.Main", "-ivy", str(folder / "ivy.xml")]
    if settings is not None:
        (folder / "settings.xml").write_text(settings)
        command += ["-settings", str(folder / "settings.xml")]
    command += ["-cache", str(folder / "cache"), "-types", "jar", "bundle", "eclipse-plugin", "maven-plugin", ARCHIVE]
    command += ["-retrieve", str(folder / "files" / pattern)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=False)
    except subprocess.TimeoutExpired as slow:
        raise StackError("jars", f"the download took longer than {DOWNLOAD_SECONDS:.0f} s") from slow
    # Ivy's exit code is 0 for some failures, so the caller verifies the files as well.
    if done.returncode != 0:
        last = "\n    ".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        raise StackError("jars", f"Ivy failed:\n    {last}", hint="The first start needs the network (Maven Central).")
    return folder / "files"


def install(set_name: str, jars: Sequence[LockedJar], root: Path) -> bool:
    """Make `root / set_name` hold exactly the locked files; False when it already did."""
    stamp = hashlib.sha256("\n".join(jar.line for jar in jars).encode()).hexdigest()
    target = root / set_name
    if _stamp_of(target) == stamp:
        return False
    draft = Path(tempfile.mkdtemp(prefix=f".{set_name}-", dir=root))
    try:
        files = run_ivy(ivy_module(set_name, jars), IVY_SETTINGS, draft, FILE_PATTERN)
        verify(jars, files)
        for archive in files.glob(f"*.{ARCHIVE}"):
            with tarfile.open(archive) as content:
                # Without a filter, which Python 3.11 has from .4 on only: the checksum says whose archive it is.
                content.extractall(files)  # noqa: S202
            archive.unlink()
        (files / STAMP).write_text(stamp)
        if target.exists():
            target.rename(draft / "old")
        files.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return True


def ensure(progress: Progress, sets: Sequence[str] = SETS, root: Path | None = None) -> None:
    """Install the sets that are missing, at the same time; safe when two do it at once.

    Raises:
        StackError: a download failed or a checksum is wrong.

    """
    root = root or jars_root()
    locked = read_lock(LOCK_FILE.read_text())
    by_set = {name: [jar for jar in locked if jar.set_name == name] for name in sets}
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".lock"):
        for leftover in root.glob(".*-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        with ThreadPoolExecutor(len(by_set)) as pool:
            waiting = {name: pool.submit(install, name, jars, root) for name, jars in by_set.items()}
        for name, made in waiting.items():
            if made.result():
                progress(f"jars: {name}, {len(by_set[name])} files downloaded and verified")


def jars_root() -> Path:
    """Where the sets are: inside the Python environment, so that one deletion removes everything downloaded."""
    return Path(sys.prefix) / "jars"


def spark_jars() -> list[Path]:
    """List the jars that Spark needs beside its own."""
    return sorted((jars_root() / "spark").glob("*.jar"))


def class_archive() -> Path:
    """Name the archive of Spark's classes; where there is none, Java starts more slowly."""
    return jars_root() / "spark.jsa"


def kafka_classpath() -> str:
    """Name the classpath of the broker and of Connect."""
    return str(jars_root() / "kafka" / "*")


def debezium_plugin_dir() -> Path:
    """Name the folder for Connect's `plugin.path`."""
    return jars_root() / "debezium"


def pyspark_jars() -> Path:
    """Name the folder of the jars inside the pyspark wheel."""
    import pyspark  # noqa: PLC0415 - half a second that only a first start needs to spend

    return Path(pyspark.__file__).parent / "jars"


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise StackError("jars", f"pyspark holds no {pattern}", hint="Delete .venv and start again.")
    return found[-1]


def _stamp_of(folder: Path) -> str | None:
    stamp = folder / STAMP
    return stamp.read_text() if stamp.is_file() else None


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def main(arguments: Sequence[str]) -> int:
    """Install the sets, or rewrite the lock."""
    parser = argparse.ArgumentParser(prog="python -m engagement.embedded.jars", description=__doc__)
    parser.add_argument("--lock", action="store_true", help="resolve anew and rewrite conf/jars.lock (maintainers)")
    options = parser.parse_args(arguments)
    try:
        if options.lock:
            from engagement.embedded.jars_lock import write_lock  # noqa: PLC0415 - it imports this module

            write_lock(LOCK_FILE)
        else:
            ensure(_say)
    except StackError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
