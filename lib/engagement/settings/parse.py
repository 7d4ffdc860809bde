"""From the text of one setting to its value; every refusal is a ValueError with a sentence for a person."""

import base64
import json
import re
from urllib.parse import urlsplit

from pydantic import SecretStr

from engagement.settings.urls import passwords, postgres_url, redis_url

# What templates ship with: a service that starts with one of these is open to whoever read the template.
_PLACEHOLDERS = re.compile(
    r"(change|replace)[-_ ]?me|todo|x{3,}|your[-_ ].*|<.*>|\$\{.*\}|example[-_ ]?token", re.IGNORECASE
)
_EXACTLY_ONCE = (
    "cannot be switched off: every destination keeps its Kafka offsets in the same atomic act as its data, there is no "
    "other way of writing, and without it a restart would count rows twice. Remove the setting or set it to true"
)
_LAST_OF_LATIN_1 = 0xFF
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_WEEK_HOURS, _TEN_YEARS_HOURS = 168, 87_600
_MOST_SIGNING_SECRETS = 2
_LEAST_KEY_BYTES, _MOST_KEY_BYTES = 24, 64
_SENT_BY_US = (
    *("accept-encoding", "authorization", "content-length", "content-type", "host", "idempotency-key"),
    *("transfer-encoding", "webhook-id", "webhook-signature", "webhook-timestamp"),
)


def postgres(value: SecretStr) -> SecretStr:
    """Return the PostgreSQL URL in libpq's form."""
    url = postgres_url(value.get_secret_value())
    _refuse_placeholder(url)
    return SecretStr(url)


def redis(value: SecretStr) -> SecretStr:
    """Return the Redis URL, checked."""
    url = redis_url(value.get_secret_value())
    _refuse_placeholder(url)
    return SecretStr(url)


def token(value: SecretStr) -> SecretStr:
    """Return a token, password or key, checked to be a real one."""
    text = value.get_secret_value()
    if text != text.strip() or not text.isprintable():
        raise ValueError("holds blanks around it or control characters")
    _refuse_placeholder(text)
    return value


def bearer_token(value: SecretStr) -> SecretStr:
    """Return a token that travels in an HTTP header."""
    if not _is_header(token(value).get_secret_value()):
        raise ValueError("holds characters that no HTTP header carries")
    return value


def signing_secrets(value: SecretStr) -> SecretStr:
    """Return one Standard Webhooks secret, or two with a comma between, checked to be what the standard asks for."""
    text = value.get_secret_value()
    secrets = [each.strip() for each in text.split(",")] if text else []
    if len(secrets) > _MOST_SIGNING_SECRETS:
        raise ValueError("holds more than two secrets: the new one, and the old one while receivers learn the new")
    for secret in secrets:
        _refuse_placeholder(secret)
        try:
            key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except ValueError:
            raise ValueError("is no Standard Webhooks secret: whsec_ and the key in base64") from None
        if not _LEAST_KEY_BYTES <= len(key) <= _MOST_KEY_BYTES:
            raise ValueError(f"holds a key of {len(key)} bytes; the standard asks for 24 to 64")
    return SecretStr(",".join(secrets))


def headers(value: object) -> object:
    """Return the headers as a mapping, from a JSON object or from the mapping a YAML file gives."""
    found = _json_object(value) if isinstance(value, str) else value
    if not isinstance(found, dict):
        raise ValueError('must be a JSON object of texts, for example {"X-Tenant": "radio"}')  # noqa: TRY004
    for name, text in found.items():
        if not isinstance(text, str | SecretStr) or not _HEADER_NAME.fullmatch(str(name)):
            raise ValueError(f"header {str(name)!r} is no header name with a text")
        if isinstance(text, str) and not _is_header(text):
            raise ValueError(f"header {name!r} holds blanks around its text, or characters that no header carries")
        if str(name).lower() in _SENT_BY_US:
            raise ValueError(f"header {name!r} is set by the sink itself")
    return found


def only_exactly_once(value: bool) -> bool:
    """Return true; ValueError explains why false is not on offer."""
    if not value:
        raise ValueError(_EXACTLY_ONCE)
    return value


def lake_retention(value: int) -> int:
    """Return 0 or at least a week: readers of an older version, and a commit under way, still need its files."""
    if value != 0 and not _WEEK_HOURS <= value <= _TEN_YEARS_HOURS:
        raise ValueError(f"must be 0 or {_WEEK_HOURS}..{_TEN_YEARS_HOURS}")
    return value


def log_level(value: object) -> object:
    """Return a level in upper case, WARN as WARNING."""
    text = str(value).upper()
    return "WARNING" if text == "WARN" else text


def local_path(value: object) -> object:
    """Return a path of this machine's file system without `file://`."""
    text = str(value)
    scheme, separator, rest = text.partition("://")
    if separator and scheme != "file":
        raise ValueError("must be a local folder: one driver holds an exclusive lock on it, which object stores lack")
    return urlsplit(text).path if separator and rest else value


def _is_header(text: str) -> bool:
    """Whether HTTP carries it unchanged: printable characters of Latin-1, no blanks around them."""
    return text == text.strip() and text.isprintable() and all(ord(character) <= _LAST_OF_LATIN_1 for character in text)


def _json_object(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _refuse_placeholder(text: str) -> None:
    if any(_PLACEHOLDERS.fullmatch(piece) for piece in passwords(text)):
        raise ValueError("is the placeholder of a template, not a secret")
