"""Where values come from: the environment, `.env`, `conf/*.yaml`, the running embedded stack.

Reads files, knows no setting's meaning. Each source becomes one Layer of texts; the strongest comes first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from dotenv import dotenv_values

from engagement.errors import ConfigError

ENVIRONMENT = "environment"
DOTENV = ".env"
STACK = "running stack"
DEFAULT = "default"
DEFAULT_OVERLAY = "local"
STACK_FILE = "stack.env"
"""Below the home of a stack that is up: what it tells its clients."""


@dataclass(frozen=True)
class Layer:
    """One source: its name for messages and its values; `conf` and `.env` are files of ours, the rest is shared."""

    origin: str
    values: Mapping[str, object]


@dataclass(frozen=True)
class SettingsFiles:
    """The files settings are read from; those that do not exist are skipped, an overlay asked for by name is not."""

    project: Path

    @property
    def dotenv(self) -> Path:
        """The developer's own file, never committed."""
        return self.project / ".env"

    @property
    def conf(self) -> Path:
        """Folder of the committed files: base.yaml and one overlay."""
        return self.project / "conf"

    def stack_env(self, home: str) -> Path:
        """File that a running embedded stack has written below its home folder."""
        return self.project / home / STACK_FILE


def read_dotenv(files: SettingsFiles) -> Layer:
    """Read `.env`; values are taken as written, `${…}` is not replaced."""
    return Layer(DOTENV, _name_value_file(files.dotenv))


def read_stack(files: SettingsFiles, home: str) -> Layer:
    """Read what a running embedded stack tells its clients; empty when none runs."""
    return Layer(STACK, _name_value_file(files.stack_env(home)))


def read_conf(files: SettingsFiles, overlay: str) -> Sequence[Layer]:
    """Read the overlay and base.yaml, stronger first; ConfigError names a file that is no mapping of names."""
    named = files.conf / f"{overlay}.yaml"
    if overlay != DEFAULT_OVERLAY and not named.is_file():
        raise ConfigError([f"ENGAGEMENT_CONFIG = {overlay!r}: there is no file {named}"])
    paths = (named, files.conf / "base.yaml")
    return [Layer(f"conf/{path.name}", _yaml_file(path)) for path in paths if path.is_file()]


def _name_value_file(path: Path) -> dict[str, object]:
    if not path.is_file():
        return {}
    # interpolate=False: it would read this process's environment behind the caller's back, and a password may hold a $.
    return {name: value or "" for name, value in dotenv_values(path, interpolate=False).items()}


def _yaml_file(path: Path) -> dict[str, object]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError([f"conf/{path.name} is no YAML: {error}"]) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError([f"conf/{path.name} must be a list of NAME: value lines"])
    return {str(name): _text(value) for name, value in content.items()}


def _text(value: object) -> object:
    """Bring a YAML scalar to the text the environment would hold, so that every source is read by one parser."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, dict) else str(value)
