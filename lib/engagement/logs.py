"""Log set-up of a command: one line per message, one filter that keeps secrets and personal data out.

On a terminal lines are for people; elsewhere (a file, a pipe, a service manager) each is one JSON object with `ts`,
`level`, `logger`, `message` and, where they are known, `query`, `batch_id` and `sink` (logging's `extra`).

Importing this module changes nothing; only `set_up_logging` touches the logging tree, and a library never calls it.
"""

import ipaddress
import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterable
from typing import Literal, TextIO

from engagement.settings.urls import MASK

_SHORTEST_SECRET = 4
"""Shorter values are left to the patterns: replacing every `p` of a text would hide the text, not the secret."""

LogFormat = Literal["auto", "json", "console"]
CONTEXT = ("query", "batch_id", "sink")
_SINK_THREAD = re.compile(r"query-(.+)|(redis)-(?:keeper|rebuild)")
"""Threads of the streaming job that are a query's, which is named after its sink, or work beside it for the board."""

_USER = "<user>"
_ADDRESS = "<address>"


def _masked(found: re.Match[str]) -> str:
    """An IPv6 address but loopback and the wildcard; what only looks like one (a time) stays."""
    try:
        address = ipaddress.IPv6Address(found[0])
    except ValueError:
        return found[0]
    return found[0] if address.is_loopback or address.is_unspecified else _ADDRESS


_PATTERNS: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    # scheme://user:password@host
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s@/]+(@)", re.IGNORECASE), rf"\1{MASK}\2"),
    (re.compile(r"\b((?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]+", re.IGNORECASE), rf"\1{MASK}"),
    # password=…, "api_key": "…", sasl.jaas.config's password="…"
    (
        re.compile(
            r"""(\b[\w.-]*(?:passw(?:or)?d|pwd|secret|token|api[_-]?key|access[_-]?key)["']?\s*[=:]\s*)"""
            r"""("[^"]*"|'[^']*'|[^\s,;&"'})\]]+)""",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL), MASK),
    (re.compile(r"""(\buser_?id["']?\s*[=:]\s*["']?)[0-9A-Fa-f][0-9A-Fa-f-]{7,}""", re.IGNORECASE), rf"\1{_USER}"),
    # IPv4 but loopback and the wildcard, which say nothing about a person and much about a fault.
    (re.compile(r"(?<![\d.])(?!127\.|0\.0\.0\.0)(?:\d{1,3}\.){3}\d{1,3}(?!\.?\d)"), _ADDRESS),
    (re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:]|\.\d)"), _masked),
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f\u2028\u2029]")


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Return the text without passwords, tokens, keys, user ids and foreign IP addresses.

    >>> redact("GET redis://:hunter2@h/0 user_id=0fcf1fb8-8a1b")
    'GET redis://:********@h/0 user_id=<user>'
    """
    # Longest first: a secret that contains another must not leave its rest behind.
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, MASK)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


class RedactingFormatter(logging.Formatter):
    """Formats a record as one line in UTC, with traceback lines indented below it, and redacts the finished text.

    It works on the finished text because that is the one place where message, arguments and traceback meet.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime
        self._secrets = frozenset(secrets)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a line break in data cannot forge another line."""
        text = redact(super().format(record), self._secrets)
        return _CONTROL.sub(_escaped, text.replace("\n", "\n    "))


class JsonFormatter(RedactingFormatter):
    """Formats a record as one JSON object in one line; texts are redacted before they are quoted."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; JSON's own quoting keeps data from forging another one."""
        moment = f"{self.formatTime(record, self.datefmt)}.{record.msecs:03.0f}Z"
        said: dict[str, object] = {"ts": moment, "level": record.levelname, "logger": record.name}
        said |= {name: getattr(record, name) for name in CONTEXT if hasattr(record, name)}
        if thread := _SINK_THREAD.match(record.threadName or ""):
            said.setdefault("sink", thread[1] or thread[2])
            if thread[1]:
                said.setdefault("query", thread[1])
        said["message"] = redact(record.getMessage(), self._secrets)
        if record.exc_info:
            said["exception"] = redact(self.formatException(record.exc_info), self._secrets)
        return json.dumps(said, default=str)


def set_up_logging(
    level: str, secrets: Iterable[str], stream: TextIO | None = None, log_format: LogFormat = "auto"
) -> None:
    """Send our messages from `level` up, and other libraries' warnings, to `stream` (standard error)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    as_json = writes_json(log_format, handler.stream)
    handler.setFormatter(JsonFormatter(secrets) if as_json else RedactingFormatter(secrets))
    root = logging.getLogger()
    for earlier in [one for one in root.handlers if isinstance(one.formatter, RedactingFormatter)]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("engagement").setLevel(level)


def writes_json(log_format: LogFormat, stream: TextIO) -> bool:
    """Whether lines are JSON: as asked for, else wherever no person looks on."""
    return log_format == "json" or (log_format == "auto" and not stream.isatty())


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
