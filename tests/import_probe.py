"""Imports each named module in a process of its own and prints, as JSON, what doing so changed (see test_architecture).

The libraries are loaded once before the forks, which keeps hundreds of clean imports within seconds. So are the
settings, which most of them import and which take as long as all else: once they have been found clean themselves.
"""

import gc
import importlib
import json
import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from types import TracebackType

LIBRARIES = (
    "confluent_kafka.admin", "delta.tables", "deltalake", "dotenv", "duckdb", "fastapi", "filelock",
    "google.cloud.bigquery", "google.cloud.bigquery_storage_v1", "msgpack", "pandas", "prometheus_client", "psutil",
    "psycopg2.extras", "pyarrow.parquet", "pydantic", "pyspark.sql.functions", "redis", "requests", "rich.live",
    "uvicorn", "yaml",
)  # fmt: skip
ACTS = (
    "socket.connect", "socket.bind", "subprocess.Popen", "os.system", "os.fork", "os.posix_spawn", "os.putenv",
    "os.unsetenv", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.chdir", "os.kill", "shutil.rmtree",
)  # fmt: skip
OWN = ("engagement", "jobs")
SETTINGS = "engagement.settings"


def main(names: list[str]) -> None:
    """One child per module; its findings come back through a pipe."""
    for library in LIBRARIES:
        with suppress(ImportError):  # a library that is not installed is not used either, or its user says so
            importlib.import_module(library)
    gc.freeze()  # or each child's collector would go through all of them
    effects = {name: _in_child(name) for name in names if name.startswith(SETTINGS)}
    importlib.import_module(SETTINGS)
    effects |= {name: _in_child(name) for name in names if name not in effects}
    sys.stdout.write(json.dumps(effects))


def _in_child(name: str) -> list[str]:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        with os.fdopen(write, "w") as answer:
            json.dump(_effects(name), answer)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return list(json.loads(text)) if text else ["the import ended the process"]


def _effects(name: str) -> list[str]:
    found: list[str] = []

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        # Only what our own code asks for: a library that it loads late may do as it likes.
        if (event in ACTS or _writes(event, arguments)) and _asked_by_us():
            found.append(f"{event} {arguments[:2]!r}"[:200])

    before = _state()
    sys.addaudithook(audit)
    try:
        importlib.import_module(name)
    except BaseException as error:  # noqa: BLE001 - whatever an import raises is the finding
        return [f"raised {type(error).__name__}: {error} {_place(error.__traceback__)}"]
    changed = [f"changed {what}" for what, value in _state().items() if value != before[what]]
    return list(found) + changed


def _writes(event: str, arguments: tuple[object, ...]) -> bool:
    flags = arguments[2] if event == "open" and len(arguments) > 2 else 0
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def _asked_by_us() -> bool:
    frame = sys._getframe(2)
    while frame is not None:
        owner = str(frame.f_globals.get("__name__", ""))
        if owner.split(".", maxsplit=1)[0] in OWN:
            return True
        if owner.startswith("importlib") or owner in {"_frozen_importlib", "_frozen_importlib_external"}:
            # Reached the import system before our code: a library's own top level did it.
            return False
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _state() -> dict[str, object]:
    return {
        "environment": dict(os.environ),
        "working folder": os.getcwd(),
        "threads": [thread.name for thread in threading.enumerate()],
        "signal handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)],
        "log handlers": (list(logging.getLogger().handlers), logging.getLogger().level),
        "argv": list(sys.argv),
    }


def _place(trace: TracebackType | None) -> str:
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})"


if __name__ == "__main__":
    main(sys.argv[1:])
