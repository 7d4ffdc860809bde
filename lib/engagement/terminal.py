"""Lines for a person at a terminal, which may be gone."""

import sys
from collections.abc import Callable
from contextlib import suppress


def sayer(name: str = "") -> Callable[[object], None]:
    """Return what puts one line on the terminal at once, after a command's name."""
    start = f"{name}: " if name else ""

    def say(text: object) -> None:
        sys.stdout.write(f"{start}{text}\n")
        sys.stdout.flush()

    return say


def if_heard(say: Callable[[str], None], text: str) -> None:
    """Say it where the terminal may be gone: that must not keep services from being stopped."""
    with suppress(OSError):
        say(text)
