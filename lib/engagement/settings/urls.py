"""Addresses: checked, brought to one form, and masked. Pure text in, text out."""

import re
from ipaddress import ip_address
from urllib.parse import SplitResult, parse_qsl, quote, unquote, unquote_plus, urlencode, urlsplit, urlunsplit

REDIS_SCHEMES = ("redis", "rediss", "unix")
POSTGRES_SCHEMES = ("postgresql", "postgres")
MASK = "********"

_USER = re.compile(r"(?<=://).*@", re.DOTALL)
_SECRET_PARAMETER = re.compile(r"pass|secret|token|key|sig(nature)?$", re.IGNORECASE)
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):(\d{1,5})")
_HIGHEST_PORT = 65_535


def postgres_url(text: str) -> str:
    """Return the URL as libpq takes it; ValueError when it is none.

    >>> postgres_url("postgresql+psycopg2://me:pw@db:5432/app")
    'postgresql://me:pw@db:5432/app'
    """
    scheme, separator, rest = text.partition("://")
    base = scheme.partition("+")[0]  # SQLAlchemy's spelling names a driver, which libpq does not know
    if not separator or base not in POSTGRES_SCHEMES:
        raise ValueError("must be a URL like postgresql://user:password@host:5432/database")
    url = f"postgresql://{rest}"
    parts = _checked(url)
    parameters = dict(parse_qsl(parts.query))
    if not (parts.hostname or parameters.get("host")):
        raise ValueError("names no host")
    if not (parts.path.strip("/") or parameters.get("dbname")):
        raise ValueError("names no database: postgresql://user:password@host:5432/database")
    return url


def redis_url(text: str) -> str:
    """Return the URL unchanged when redis-py takes it; ValueError when not."""
    parts = _checked(text)
    if parts.scheme not in REDIS_SCHEMES:
        raise ValueError("must begin with redis://, rediss:// (TLS) or unix:// (a socket file)")
    if parts.scheme == "unix":
        if not parts.path.strip("/"):
            raise ValueError("names no socket file: unix:///run/redis/redis.sock")
    elif not parts.hostname:
        raise ValueError("names no host: redis://host:6379/0")
    elif parts.path.strip("/") and not parts.path.strip("/").isdigit():
        raise ValueError("ends with something that is no database number: redis://host:6379/0")
    redis_database(text)
    return text


def redis_database(url: str) -> int | None:
    """Return the database number a Redis URL names, None when it names none.

    >>> redis_database("redis://h:6379/3"), redis_database("unix:///s.sock?db=2"), redis_database("redis://h")
    (3, 2, None)
    """
    parts = urlsplit(url)
    named = dict(parse_qsl(parts.query)).get("db") or ("" if parts.scheme == "unix" else parts.path.strip("/"))
    if named and not named.isdigit():
        raise ValueError("names a database that is no number")
    return int(named) if named else None


def with_redis_database(url: str, database: int) -> str:
    """Return the URL with its database replaced, in the place where its form keeps it.

    >>> with_redis_database("rediss://:pw@h:6379", 2), with_redis_database("unix:///s.sock?db=0", 1)
    ('rediss://:pw@h:6379/2', 'unix:///s.sock?db=1')
    """
    parts = urlsplit(url)
    kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name != "db"]
    if parts.scheme == "unix":
        # urlunsplit writes unix:/path for an empty host, which redis-py does not take.
        return f"unix://{parts.netloc}{parts.path}?{urlencode([*kept, ('db', str(database))])}"
    return urlunsplit(parts._replace(path=f"/{database}", query=urlencode(kept)))


def bootstrap_servers(text: str) -> str:
    """Return the list without blanks; ValueError names the entry that is no host:port."""
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    for entry in entries:
        found = _HOST_PORT.fullmatch(entry.rpartition("://")[2])
        if found is None or not 0 < int(found[2]) <= _HIGHEST_PORT:
            raise ValueError(f"{entry!r} is no host:port (several are separated by commas)")
    return ",".join(entries)


def web_url(text: str) -> str:
    """Return an http or https address unchanged; ValueError when it is none."""
    parts = _checked(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be a URL that begins with http:// or https://")
    return text


def receiver_url(text: str) -> str:
    """The same without user and password: as HTTP's Basic they would take the place of the bearer token."""
    if "@" in urlsplit(web_url(text)).netloc:
        raise ValueError("holds a user or a password: the receiver knows us by EXTERNAL_SYSTEM_TOKEN")
    return text


def without_user(text: str) -> str:
    """Return any text as it may be quoted: what stands before an address's host is masked, to the last @ there is.

    A password that was not escaped may hold what ends a host.

    >>> without_user("https://me:s3cret@partner/events"), without_user("loud")
    ('https://********@partner/events', 'loud')
    """
    return _USER.sub(f"{MASK}@", text)


def is_loopback(url: str) -> bool:
    """Tell whether the URL's host is this machine."""
    return _is_this_machine(urlsplit(url).hostname or "")


def other_brokers(servers: str) -> list[str]:
    """List the brokers that are not on this machine.

    >>> other_brokers("localhost:9092,PLAINTEXT://a:9092,[::1]:9092,10.0.0.1:9092")
    ['PLAINTEXT://a:9092', '10.0.0.1:9092']
    """
    entries = [entry for entry in servers.split(",") if entry]
    return [entry for entry in entries if not is_loopback(f"//{entry.rpartition('://')[2]}")]


def remote_sslmode(url: str) -> str:
    """Return the sslmode of a PostgreSQL that is not on this machine, libpq's default if it names none; else "".

    >>> remote_sslmode("postgresql://db/app"), remote_sslmode("postgresql:///app?host=/run/postgresql")
    ('prefer', '')
    """
    parts = urlsplit(url)
    parameters = dict(parse_qsl(parts.query))
    host = parameters.get("host") or unquote(parts.hostname or "")
    here = not host or host.startswith("/") or _is_this_machine(host)  # the first two: a socket file
    return "" if here else parameters.get("sslmode") or "prefer"


def masked(text: str) -> str:
    """Return an address as it may be shown: host and database visible, password not.

    >>> masked("postgresql://me:s3cret@db:5432/app?sslpassword=x")
    'postgresql://me:********@db:5432/app?sslpassword=********'
    >>> masked("just-a-token")
    '********'
    """
    parts = _split(text)
    if parts is None:
        return MASK
    user, at, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    netloc = f"{name}{colon}{MASK if colon else ''}{at}{host}"
    query = "&".join(_masked_parameter(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True))
    return f"{parts.scheme}://{netloc}{parts.path}{'?' + query if query else ''}"


def passwords(text: str) -> list[str]:
    """List the secret pieces of a value, as written and decoded, for the log filter; a plain token is its own piece."""
    parts = _split(text)
    if parts is None:
        return [text]
    password = parts.netloc.rpartition("@")[0].partition(":")[2]
    forms = [password, unquote(password)]
    for parameter in parts.query.split("&"):
        name, _, value = parameter.partition("=")
        if _SECRET_PARAMETER.search(unquote_plus(name)):
            # HTTP's libraries log addresses with their escapes in capitals.
            forms += [value, _ESCAPE.sub(lambda found: found[0].upper(), value), unquote(value), unquote_plus(value)]
    return [form for form in dict.fromkeys(forms) if form]


def shown(text: str) -> str:
    """Return a value that is no secret as it may be shown: an address may carry one all the same.

    >>> shown("https://ops:s3cret@connect:8083"), shown("local[2]")
    ('https://ops:********@connect:8083', 'local[2]')
    """
    return masked(text) if hidden_in(text) else text


def hidden_in(text: str) -> list[str]:
    """List the secret pieces of a value that is no secret as a whole: those of an address."""
    return passwords(text) if "://" in text else []


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _checked(text: str) -> SplitResult:
    """Take an address apart. Raises: ValueError in words of ours; the library's quote what stands in a port's place.

    >>> _checked("redis://:pa/ss@cache:6379")
    Traceback (most recent call last):
    ValueError: cannot be taken apart: a port is a number, and a / ? # @ [ or ] in a password is written %2F and so on
    """
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError(
            "cannot be taken apart: a port is a number, and a / ? # @ [ or ] in a password is written %2F and so on"
        ) from None
    return parts


def _split(text: str) -> SplitResult | None:
    """Take an address apart; None when it is none, or cannot be."""
    try:
        return urlsplit(text) if "://" in text else None
    except ValueError:
        return None


def _masked_parameter(name: str, value: str) -> str:
    return f"{name}={MASK if _SECRET_PARAMETER.search(name) else quote(value, safe='/:,')}"
