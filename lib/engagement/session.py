"""The one place that makes a SparkSession."""

import atexit
import os
import shlex
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any

from pyspark import SparkContext
from pyspark.sql import SparkSession

from engagement.project import PROJECT

CONF = PROJECT / "conf"

_ENFORCED = {
    # Not pinned by a checkpoint: the same naive timestamp would move with the machine's zone.
    "spark.sql.session.timeZone": "UTC",
    # An overflow is an error everywhere, never a silent NULL; data goes through try_* functions only.
    "spark.sql.ansi.enabled": "true",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    # Passwords of clients, wherever Spark would print its configuration or a plan.
    "spark.redaction.regex": "(?i)secret|password|passwd|token|url|jaas|key",
    "spark.sql.redaction.options.regex": "(?i)url|password|secret|token|jaas",
}

_SOCKETS = "spark.python.unix.domain.socket.enabled=true"
_SHORT = "/tmp"  # noqa: S108 - mkdtemp makes a folder in it that is ours alone
"""Spark takes no folder of more than 61 characters for sockets, and TMPDIR may be longer."""

_WORTH_COMPILING = 50_000
"""Rows. Compiling costs a query about a second at first, and each of its tasks the text of the code; see also
spark.sql.codegen.factoryMode in conf/spark-defaults.conf."""

_NAMED_IN_SHORT = ("PythonSQLUtils", "PythonUtils", "SimplePythonFunction")
"""Java's classes that pyspark asks for by these names whenever a pass through Python is planned."""

_LOCAL = {
    # Python tasks of 38 instead of 85 ms: no 40 ms delayed ACK. A container's folders have too long names for it.
    "spark.python.unix.domain.socket.enabled": "true",
    # Driver and executors are one process: nothing of it listens to the network.
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
}


def submit_arguments(jars: Sequence[Path], spark_options: Sequence[str], master: str) -> str:
    """What pyspark hands to spark-submit when it starts the JVM.

    Order decides: conf/spark-defaults.conf, then ours, then what the person wrote after `--`. The driver has the jars
    on its class path too: only classes from there can come out of an archive.
    """
    ours = [
        "--properties-file", str(CONF / "spark-defaults.conf"),
        "--master", master,
        "--driver-class-path", os.pathsep.join(str(jar) for jar in jars),
        "--conf", f"spark.scheduler.allocation.file={CONF / 'fair-scheduler.xml'}",
        "--jars", ",".join(str(jar) for jar in jars),
    ]  # fmt: skip
    for name, value in {**(_LOCAL if master.startswith("local") else {}), **_ENFORCED}.items():
        ours += ["--conf", f"{name}={value}"]
    return shlex.join([*ours, *spark_options, "pyspark-shell"])


def start_session(
    app_name: str,
    arguments: str,
    environment: MutableMapping[str, str] = os.environ,
    *,
    json_logs: bool = False,
    jvm_options: Sequence[str] = (),
) -> SparkSession:
    """Start Spark's JVM, or take the one that spark-submit started already; its own lines are JSON if ours are.

    `jvm_options` are the driver's alone, beside those of spark.driver.extraJavaOptions.
    """
    # Not by SPARK_CONF_DIR: that folder would be on the class path, and with a folder Java uses no archive of classes.
    options = [f"-Dlog4j2.configurationFile={(CONF / 'log4j2.properties').as_uri()}", *jvm_options]
    environment["SPARK_SUBMIT_OPTS"] = f"{environment.get('SPARK_SUBMIT_OPTS', '')} {shlex.join(options)}"
    if json_logs:
        environment.setdefault("LOG4J_APPENDER", "json")  # of conf/log4j2.properties
    environment.setdefault("PYSPARK_PYTHON", sys.executable)
    environment.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    environment["PYSPARK_SUBMIT_ARGS"] = arguments
    interrupt = signal.getsignal(signal.SIGINT)
    builder = SparkSession.builder.appName(app_name)
    for name, value in {**_ENFORCED, **_socket_folder(arguments)}.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    if threading.current_thread() is threading.main_thread():
        # pyspark has put its own handler there, which cancels jobs; ours finishes the micro-batch.
        signal.signal(signal.SIGINT, interrupt)
    _know_classes(session)
    # Driver logging is set by conf/log4j2.properties; this silences what the shell entry point adds.
    session.sparkContext.setLogLevel("WARN")
    return session


def _socket_folder(arguments: str) -> dict[str, str]:
    """A folder of this process alone: whoever can open a worker's socket can have it run anything."""
    if _SOCKETS not in arguments or SparkContext._active_spark_context is not None:
        return {}
    folder = tempfile.mkdtemp(prefix="engagement-", dir=_SHORT)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return {"spark.python.unix.domain.socket.dir": folder}


def forget_sockets(session: SparkSession) -> None:
    """Have the JVM forget the sockets it has noted to delete at its end: one for each `collect`, and it never would.

    The list is replaced, not changed: other threads add to it meanwhile. What one adds in between is not deleted at the
    end; of sockets that is nothing new, their folder goes as a whole.
    """
    java: Any = session.sparkContext._jvm
    noted = java.java.lang.Class.forName("java.io.DeleteOnExitHook").getDeclaredField("files")
    noted.setAccessible(True)
    kept = java.java.util.LinkedHashSet(noted.get(None))
    kept.removeIf(java.java.util.regex.Pattern.compile(r"\.sock$").asPredicate())
    noted.set(None, kept)


def _know_classes(session: SparkSession) -> None:
    """Ask for them once: Java tries each package that pyspark imports, in every jar, 3 ms of each micro-batch."""
    java: Any = session.sparkContext._jvm
    for name in _NAMED_IN_SHORT:
        setattr(java, name, getattr(java, name))


def compile_for(session: SparkSession, rows: int) -> None:
    """Have what a session runs next compiled, or interpreted, as its rows are worth; by default it is interpreted."""
    mode = "FALLBACK" if rows >= _WORTH_COMPILING else "NO_CODEGEN"
    session.conf.set("spark.sql.codegen.factoryMode", mode)
