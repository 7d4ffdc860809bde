"""From the sources to checked settings: merge, find unknown names, validate, and report every problem at once."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from engagement.errors import ConfigError
from engagement.settings import names, rules
from engagement.settings.field import Declared
from engagement.settings.model import Settings, declared_settings
from engagement.settings.services import without_the_callers
from engagement.settings.sources import (
    DEFAULT,
    DEFAULT_OVERLAY,
    DOTENV,
    ENVIRONMENT,
    STACK,
    Layer,
    SettingsFiles,
    read_conf,
    read_dotenv,
    read_stack,
)
from engagement.settings.urls import (
    hidden_in,
    passwords,
    redis_database,
    shown,
    with_redis_database,
    without_user,
)

OVERLAY = "ENGAGEMENT_CONFIG"
FOREIGN = "ENGAGEMENT_FOREIGN_VARIABLES"
_HOME = "ENGAGEMENT_HOME"
_FROM_FILE = "_FILE"
_READABLE_BY_OTHERS = 0o044


@dataclass(frozen=True)
class Given:
    """A value as some source wrote it, and which source that was."""

    value: object
    origin: str


@dataclass(frozen=True)
class Resolved:
    """Checked settings, where each value came from, and what is allowed but doubtful."""

    settings: Settings
    origins: Mapping[str, str]
    warnings: tuple[str, ...]
    stack_counts: bool
    """Whether a running stack supplies what is not set."""


def load_settings(env: Mapping[str, str], files: SettingsFiles, needs: Collection[str] = ()) -> Settings:
    """Return the settings; `needs` names those that must be set. ConfigError lists every problem at once."""
    return resolve(env, files, needs).settings


def resolve(env: Mapping[str, str], files: SettingsFiles, needs: Collection[str] = ()) -> Resolved:
    """Return the settings with their origins; environment > .env > conf/*.yaml > running stack > defaults.

    The running stack counts only where ENGAGEMENT_CONFIG is `local`, as it is by default, and says nothing of services
    that the caller brings along.
    """
    layers = _layers(env, files)
    stack_counts = any(layer.origin == STACK for layer in layers)
    given, problems = _merge(layers, files.project)
    problems += _unknown(layers)
    problems += _redis_database(given)
    sections, bad = _validate(given)
    problems += bad.values()
    settings = Settings.model_validate(sections)
    problems += [text for text in rules.broken(settings) if not any(name in text for name in bad)]
    problems += [not_set(name, stack_counts) for name in needs if name not in given and name not in bad]
    if problems:
        raise ConfigError(problems)
    origins = {item.name: given[item.name].origin if item.name in given else DEFAULT for item in declared_settings()}
    return Resolved(settings, origins, (*rules.doubtful(settings), *_exposed(files, given)), stack_counts)


def _layers(env: Mapping[str, str], files: SettingsFiles) -> Sequence[Layer]:
    own = [Layer(ENVIRONMENT, env), read_dotenv(files)]
    overlay = _first(own, OVERLAY) or DEFAULT_OVERLAY
    conf = read_conf(files, overlay)
    if overlay != DEFAULT_OVERLAY:
        return [*own, *conf]  # what it leaves out is not set: a stack on this machine is no part of another place
    callers = [*own, *conf]
    stack = read_stack(files, _first(callers, _HOME) or _default(_HOME))
    said = {name: value for layer in reversed(callers) for name, value in layer.values.items() if value}
    return [*callers, Layer(STACK, without_the_callers(stack.values, said))]


def _first(layers: Iterable[Layer], name: str) -> str:
    found = [str(layer.values[name]) for layer in layers if layer.values.get(name)]
    return found[0] if found else ""


def _default(name: str) -> str:
    return next(str(item.default) for item in declared_settings() if item.name == name)


def _merge(layers: Sequence[Layer], project: Path) -> tuple[dict[str, Given], list[str]]:
    given: dict[str, Given] = {}
    problems: list[str] = []
    for item in declared_settings():
        for layer in layers:
            try:
                value = _value_in(layer, item, project)
            except ValueError as error:
                problems.append(f"{item.name} (from {layer.origin}): {error}")
                break
            if value is not None:
                given[item.name] = Given(value, layer.origin)
                break
    _place_paths(given, project)
    return given, problems


def _value_in(layer: Layer, item: Declared, project: Path) -> object | None:
    """Return the layer's value, None when it has none; an empty text counts as none, for a secret it is an error."""
    value = layer.values.get(item.name)
    if item.secret:
        path = layer.values.get(item.name + _FROM_FILE)
        if value is None and path:
            value = _secret_file(project / str(path))
        if isinstance(value, str) and not value.strip():
            raise ValueError("is empty; remove it, or give it a value")
    pieces = passwords if item.secret else hidden_in
    if layer.origin.startswith("conf/") and value is not None and pieces(str(value)):
        raise ValueError("holds a secret, and conf files are committed: it belongs in the environment or in .env")
    return None if value == "" else value


def _secret_file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(f"cannot read the file {path}: {error.strerror}") from error


def _place_paths(given: dict[str, Given], project: Path) -> None:
    """Make paths absolute: relative ones count from the project, the two derived ones from ENGAGEMENT_HOME."""
    home = given.get(_HOME, Given(_default(_HOME), DEFAULT))
    given[_HOME] = Given(str(project / str(home.value)), home.origin)
    for name, folder in (("LAKE_PATH", "lake"), ("CHECKPOINT_PATH", "checkpoints")):
        default = Given(str(Path(str(given[_HOME].value)) / folder), given[_HOME].origin)
        found = given.get(name, default)
        if "://" not in str(found.value):
            given[name] = Given(str(project / str(found.value)), found.origin)


def _unknown(layers: Sequence[Layer]) -> Iterator[str]:
    known = {item.name for item in declared_settings()} | {OVERLAY, FOREIGN}
    known |= {item.name + _FROM_FILE for item in declared_settings() if item.secret}
    for layer in layers:
        if layer.origin == STACK:
            continue  # written by a program of ours, perhaps by a newer one; what it adds harms nobody
        if layer.origin == ENVIRONMENT:
            yield from names.unknown_in_environment(layer.values, known, _first(layers, FOREIGN))
        else:
            find = names.unknown_in_file if layer.origin == DOTENV else names.unknown_in_conf
            yield from (f"{layer.origin}: {problem}" for problem in find(layer.values, known))


def _redis_database(given: dict[str, Given]) -> Iterator[str]:
    """Bring REDIS_URL and REDIS_DB together, so that the URL alone connects to the right database."""
    url, number = given.get("REDIS_URL"), given.get("REDIS_DB")
    if url is None:
        return
    try:
        named = redis_database(str(url.value))
    except ValueError:
        return  # the field's own check says so
    if number is None and named is not None:
        given["REDIS_DB"] = Given(str(named), url.origin)
    wanted = str(number.value) if number else str(named or 0)
    if not wanted.isdigit():
        return
    if named and int(wanted) != named:
        yield f"REDIS_DB ({wanted}) and REDIS_URL (database {named}) disagree: set one of them"
    if "://" in str(url.value):
        given["REDIS_URL"] = Given(with_redis_database(str(url.value), int(wanted)), url.origin)


def _validate(given: Mapping[str, Given]) -> tuple[dict[str, BaseModel], dict[str, str]]:
    """Build every section; a value that is refused is replaced by its default, so that all others are checked too."""
    sections: dict[str, BaseModel] = {}
    bad: dict[str, str] = {}
    for section, info in Settings.model_fields.items():
        model = info.annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            continue
        mine = [item for item in declared_settings() if item.section == section]
        values = {item.name: given[item.name].value for item in mine if item.name in given}
        try:
            sections[section] = model.model_validate(values)
        except ValidationError as error:
            found = _problems(error, mine, given)
            bad |= found
            sections[section] = model.model_validate({n: v for n, v in values.items() if n not in found})
    return sections, bad


def _problems(error: ValidationError, mine: Sequence[Declared], given: Mapping[str, Given]) -> dict[str, str]:
    by_name = {item.name: item for item in mine}
    found: dict[str, str] = {}
    for detail in error.errors(include_url=False, include_input=False):
        item = by_name[str(detail["loc"][0])]
        reason = str(detail.get("ctx", {}).get("error", "")) or detail["msg"]
        value = "" if item.secret else f" = {shown(without_user(str(given[item.name].value)))!r}"
        text = f"{item.name}{value} (from {given[item.name].origin}): {reason}. {item.meaning}"
        found.setdefault(item.name, text.strip())
    return found


def _exposed(files: SettingsFiles, given: Mapping[str, Given]) -> Iterator[str]:
    held = any(item.secret and item.name in given and given[item.name].origin == DOTENV for item in declared_settings())
    if held and files.dotenv.stat().st_mode & _READABLE_BY_OTHERS:
        yield ".env holds secrets and other users of this machine can read it: chmod 600 .env"


def not_set(name: str, stack_counts: bool) -> str:
    """What to do about a setting that has no value."""
    more = ": set it, or start the embedded services with ./spark-submit.sh stack up" if stack_counts else ""
    return f"{name} is not set{more}"
