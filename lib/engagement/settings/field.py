"""How one setting is declared: its public name, its default, whether it is a secret, a note when it has no effect.

Must not live here: values, files, rules between settings.
"""

from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

Value = TypeVar("Value")

_SECRET = "secret"  # noqa: S105 - the name of a mark, not a secret
_NOTE = "note"


class Section(BaseModel):
    """One group of settings: frozen, and a name it does not know is an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        use_attribute_docstrings=True,
        # Errors are quoted in terminals and logs; the value may be a password.
        hide_input_in_errors=True,
    )


@dataclass(frozen=True)
class Declared:
    """What is known about one setting without a value: for messages, `--print-config` and documents."""

    name: str
    section: str
    attribute: str
    default: object
    secret: bool
    meaning: str
    note: str


def setting(name: str, default: Value, *, secret: bool = False, note: str = "") -> Value:
    """Return the pydantic field of the setting that the outside calls `name`.

    `secret` values are masked wherever they are shown; `note` says why an accepted setting changes nothing.
    """
    # pydantic's own stub does the same: a field specifier has the type of the field, not of the specifier.
    return Field(
        default,
        validation_alias=name,
        repr=not secret,
        json_schema_extra={_SECRET: secret, _NOTE: note},
    )


def declared_in(section: str, model: type[BaseModel]) -> list[Declared]:
    """List the settings of one section in the order they are written."""
    return [_declared(section, attribute, info) for attribute, info in model.model_fields.items()]


def _declared(section: str, attribute: str, info: FieldInfo) -> Declared:
    extra = info.json_schema_extra
    marks = extra if isinstance(extra, dict) else {}
    return Declared(
        name=str(info.validation_alias),
        section=section,
        attribute=attribute,
        default=info.default,
        secret=bool(marks.get(_SECRET)),
        meaning=info.description or "",
        note=str(marks.get(_NOTE, "")),
    )
