"""Settings as text for people: value and origin of each, secrets masked. Pure."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

from pydantic import SecretStr

from engagement.settings.field import Declared
from engagement.settings.load import Resolved
from engagement.settings.model import Settings, declared_settings
from engagement.settings.urls import MASK, hidden_in, masked, passwords, shown

NOT_SET = "(not set)"


def config_lines(resolved: Resolved) -> Iterator[str]:
    """Yield `NAME = value  # origin` for every setting, with the note of those that have no effect."""
    for item in declared_settings():
        shown = shown_value(_value(resolved.settings, item))
        origin = resolved.origins[item.name]
        yield f"{item.name} = {shown or NOT_SET}  # {origin}{'; ' + item.note if item.note else ''}"
    for warning in resolved.warnings:
        yield f"# warning: {warning}"


def reference_lines() -> Iterator[str]:
    """Yield the commented list of all settings with their defaults, as `conf/base.yaml` shows it."""
    section = ""
    for item in declared_settings():
        if item.section != section:
            section = item.section
            yield ""
            yield f"# -- {section}"
        where = " Only in the environment or .env: it is a secret." if item.secret else ""
        yield f"# {item.meaning}{where}{' (' + item.note + ')' if item.note else ''}"
        yield f"# {item.name}: {shown_value(item.default)}".rstrip()


def secret_values(settings: Settings) -> frozenset[str]:
    """Return every text that must never be shown: the log filter looks for them."""
    found = [_value(settings, item) for item in declared_settings()]
    texts = [text for value in found for text in _texts(value) if text]
    in_addresses = [piece for value in found if isinstance(value, str) for piece in hidden_in(value)]
    return frozenset([*in_addresses, *(piece for text in texts for piece in passwords(text))])


def shown_value(value: object) -> str:
    """Return a setting's value as it may be shown.

    >>> shown_value(SecretStr("redis://:pw@h/0")), shown_value(True), shown_value(SecretStr(""))
    ('redis://:********@h/0', 'true', '')
    """
    if isinstance(value, SecretStr):
        return masked(value.get_secret_value()) if value.get_secret_value() else ""
    if isinstance(value, dict):
        return ", ".join(f"{name}: {MASK}" for name in value)
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else _plain(value)


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return shown(str(value)) if isinstance(value, str | int | Path | date) else repr(value)


def _value(settings: Settings, item: Declared) -> object:
    value: object = getattr(getattr(settings, item.section), item.attribute)
    return value


def _texts(value: object) -> list[str]:
    if isinstance(value, SecretStr):
        return [value.get_secret_value()]
    return [text for part in value.values() for text in _texts(part)] if isinstance(value, dict) else []
