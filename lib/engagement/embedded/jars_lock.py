"""How conf/jars.lock is made: full resolution of the roots, minus what pyspark already carries."""

import shutil
import tempfile
from pathlib import Path

from engagement.embedded.jars import LockedJar, pyspark_jars, run_ivy, sha256_of

KAFKA = "4.3.1"
ROOTS: dict[str, tuple[str, ...]] = {
    "spark": (
        "org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0",
        "org.postgresql:postgresql:42.7.13",
        "io.delta:delta-spark_4.2_2.13:4.4.0",
    ),
    "kafka": (
        f"org.apache.kafka:kafka_2.13:{KAFKA}",
        f"org.apache.kafka:connect-runtime:{KAFKA}",
        f"org.apache.kafka:connect-json:{KAFKA}",
        f"org.apache.kafka:connect-transforms:{KAFKA}",
        # Without a binding Kafka logs nothing at all, and a failed start could not be explained.
        "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4",
    ),
    "debezium": ("io.debezium:debezium-connector-postgres:3.6.3.Final:plugin",),
}
# Annotations for compilers, which nothing loads at run time; and a class of RoaringBitmap that Spark's own one holds.
NOT_NEEDED = ("checker-qual-", "jsr305-", "shims-")
HEADER = """# Every jar that is downloaded: set group:artifact:version[:classifier] file sha256
# Rewritten by `python -m engagement.embedded.jars --lock`; the roots are in lib/engagement/embedded/jars_lock.py.
"""


def write_lock(path: Path) -> None:
    """Resolve every set anew and rewrite the lock in one step."""
    lines = [jar.line for set_name in ROOTS for jar in resolve(set_name)]
    draft = path.with_suffix(".new")
    draft.write_text(HEADER + "\n".join(lines) + "\n")
    draft.replace(path)


def resolve(set_name: str) -> list[LockedJar]:
    """Resolve one set with everything it needs, and hash the files."""
    folder = Path(tempfile.mkdtemp(prefix="jars-lock-"))
    try:
        files = run_ivy(
            _module(set_name),
            None,
            folder,
            "[organisation]~[module]~[revision]~[artifact]-[revision](-[classifier]).[ext]",
        )
        jars = [_locked(set_name, path) for path in sorted(files.iterdir())]
        return [jar for jar in jars if not _left_out(jar)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _locked(set_name: str, path: Path) -> LockedJar:
    group, module, revision, file = path.name.split("~")
    classifier = file.removeprefix(f"{module}-{revision}").removesuffix(".tar.gz").removesuffix(".jar").lstrip("-")
    coordinates = ":".join(filter(None, (group, module, revision, classifier)))
    return LockedJar(set_name, coordinates, file, sha256_of(path))


def _left_out(jar: LockedJar) -> bool:
    if jar.file.startswith(NOT_NEEDED):
        return True
    artifact = jar.coordinates.split(":")[1]
    return jar.set_name == "spark" and any(pyspark_jars().glob(f"{artifact}-[0-9]*.jar"))


def _module(set_name: str) -> str:
    dependencies = ""
    for root in ROOTS[set_name]:
        group, artifact, version, *classifier = root.split(":")
        if classifier:
            dependencies += (
                f'<dependency org="{group}" name="{artifact}" rev="{version}" transitive="false"'
                ' conf="default->master">'
                f'<artifact name="{artifact}" type="tar.gz" ext="tar.gz" m:classifier="{classifier[0]}"/></dependency>'
            )
        else:
            dependencies += f'<dependency org="{group}" name="{artifact}" rev="{version}" conf="default->default"/>'
    return (
        '<ivy-module version="2.0" xmlns:m="http://ant.apache.org/ivy/maven">'
        f'<info organisation="engagement" module="{set_name}"/><configurations><conf name="default"/></configurations>'
        f"<dependencies>{dependencies}</dependencies></ivy-module>"
    )
