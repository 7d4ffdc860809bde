"""What no log and no answer may hold: the passwords and tokens of a stack, and the ids of the users of its events."""

from collections.abc import Iterable, Mapping
from pathlib import Path

_SECRET = ("PASSWORD", "SECRET", "SIGNING", "TOKEN")
_SHORTEST = 8
"""Shorter words are in many a line by chance."""
_SOURCE_LOG = "postgres.log"
"""PostgreSQL quotes there the statement that a crash broke off, with its values: the source's own, where they are."""


class Canaries:
    """Words by what they are, such as `REDIS_PASSWORD`; what is found is told without the word."""

    def __init__(self, settings: Mapping[str, str], users: Iterable[str]) -> None:
        secrets = {
            name.upper(): word for name, word in settings.items() if any(part in name.upper() for part in _SECRET)
        }
        self._secrets = {name: word for name, word in secrets.items() if len(word) >= _SHORTEST}
        self._users = frozenset(users)

    def in_text(self, place: str, text: str, *, with_users: bool = True) -> list[str]:
        """Lines of a text that hold one."""
        users = self._users if with_users else frozenset()
        found = []
        for number, line in enumerate(text.splitlines(), 1):
            names = [name for name, word in self._secrets.items() if word in line]
            names += ["a user's id"] * any(user in line for user in users)
            found += [f"{place}:{number} holds {name}" for name in names]
        return found

    def in_logs(self, folder: Path) -> list[str]:
        """Lines of the logs of a folder that hold one."""
        return [
            line
            for path in sorted(folder.rglob("*.log"))
            for line in self.in_text(path.name, path.read_text(errors="replace"), with_users=path.name != _SOURCE_LOG)
        ]
