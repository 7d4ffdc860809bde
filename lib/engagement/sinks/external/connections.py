"""HTTP sessions that speak only to addresses they may: checked on the connection itself, before a byte is sent.

Checking a name's addresses beforehand would leave a gap in which the name can come to mean another one. So each new
connection's peer is looked at, and TLS begins, and the request follows, only if it passes.
"""

import http.client
import http.cookiejar
import io
import ipaddress
import socket
import threading
import time
from functools import partial
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, Retry
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError

from engagement.errors import EngagementError
from engagement.sinks.external.options import ExternalOptions

_METADATA = frozenset(
    ipaddress.ip_address(address)
    for address in (
        "fd00:ec2::254",  # AWS
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle, classic
        "168.63.129.16",  # Azure's host, in public space
    )
)
"""Where clouds tell their machines secrets, beside 169.254.169.254, which is link-local as a whole."""
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_LEAST_SECONDS = 0.001
"""0 would mean not to wait for a connection at all."""
_CONNECT_RETRIES = Retry(
    total=2, connect=2, read=0, redirect=0, status=0, other=0, backoff_factor=0.1, respect_retry_after_header=False
)
"""Only connecting is tried again down here: nothing was sent yet. All else has its verdict in answers.py."""


class _End(threading.local):
    """When the request of this thread ends, monotonic seconds."""

    at = 0.0


class AddressError(EngagementError):
    """A receiver's name leads to an address that nothing may be sent to."""


def check_address(host: str, address: str, *, allow_private: bool) -> None:
    """Whether a connection for `host` that ended at `address` may be used. Raises: AddressError.

    Loopback only for a URL that says loopback, private networks only when allowed, others (the clouds' metadata, the
    rest of link-local, multicast, reserved) never.
    """
    found: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    if found.is_loopback:
        allowed = host.strip("[]") in _LOOPBACK_NAMES
    elif found in _METADATA or found.is_link_local or found.is_multicast or found.is_unspecified or found.is_reserved:
        allowed = False
    else:
        allowed = found.is_global or allow_private
    if not allowed:
        raise AddressError("the receiver's name leads to an address that may not be spoken to")


class Guard:
    """What holds for the connections of one session: where they may lead, and the time that all of a request has.

    That time is the thread's own: one that was left behind in a request gets none of what the next one begins with.
    """

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._end = _End()

    def begin(self, seconds: float) -> None:
        """A request begins, and has so long, however often a connection for it fails."""
        self._end.at = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds that it has left; 0 or less when none."""
        return self._end.at - time.monotonic()

    def limit(self, connection: socket.socket) -> None:
        """Let the next step on a connection take no longer than what is left. Raises: TimeoutError when nothing is."""
        left = self.left()
        if left <= 0:
            raise TimeoutError("the request takes too long")
        connection.settimeout(left)

    def checked(self, connection: socket.socket, host: str) -> socket.socket:
        """The same connection, if it leads where it may. Raises: AddressError."""
        try:
            check_address(host, str(connection.getpeername()[0]), allow_private=self._allow_private)
        except AddressError:
            connection.close()
            raise
        return connection


class _Limited(io.RawIOBase):
    """What a connection receives: a peer that sends a byte now and then ends no later than one that sends none."""

    def __init__(self, received: io.RawIOBase, connection: socket.socket, guard: Guard) -> None:
        self._received, self._connection, self._guard = received, connection, guard

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401 whatever holds bytes
        self._guard.limit(self._connection)
        return self._received.readinto(buffer)

    def close(self) -> None:
        self._received.close()
        super().close()


class _LimitedResponse(http.client.HTTPResponse):
    def __init__(self, guard: Guard, connection: socket.socket, **named: Any) -> None:  # noqa: ANN401
        super().__init__(connection, **named)
        self.fp = io.BufferedReader(_Limited(self.fp.detach(), connection, guard))


class _Guarded(HTTPConnection):
    def __init__(self, *given: Any, guard: Guard, **named: Any) -> None:  # noqa: ANN401
        super().__init__(*given, **named)
        self._guard = guard
        self.response_class = partial(_LimitedResponse, guard)  # type: ignore[assignment]  # it is only called

    def _new_conn(self) -> socket.socket:
        self._left()
        addresses = _addresses(self.host, self.port)
        # Each of a name's addresses may take a share, so that one which swallows everything leaves some for the others.
        self.timeout = self._left() / addresses
        connection = self._guard.checked(super()._new_conn(), self.host)
        connection.settimeout(max(self._guard.left(), _LEAST_SECONDS))
        return connection

    def _left(self) -> float:
        """What the request has left. Nothing ends a lookup of a name, so it may have none before it has connected."""
        left = self._guard.left()
        if left <= 0:
            raise ConnectTimeoutError(self, "the request takes too long")
        return left

    def send(self, data: Any) -> None:  # noqa: ANN401 the library's signature
        if self.sock is not None:  # kept, it has the limit of the request before
            self._guard.limit(self.sock)
        super().send(data)


class _GuardedHttps(_Guarded, HTTPSConnection):
    pass


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _Guarded


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _GuardedHttps


class _GuardedAdapter(HTTPAdapter):
    def __init__(self, guard: Guard) -> None:
        self._pools: dict[str, Any] = {
            "http": partial(_HttpPool, guard=guard),
            "https": partial(_HttpsPool, guard=guard),
        }
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=_CONNECT_RETRIES)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:  # noqa: ANN401
        """Make the pool, of guarded connections."""
        self.poolmanager = PoolManager(num_pools=connections, maxsize=maxsize, block=block, **options)
        self.poolmanager.pool_classes_by_scheme = self._pools


def new_session(options: ExternalOptions, guard: Guard) -> requests.Session:
    """A session for one lane: one kept connection, no proxies, no cookies, no redirects; opens nothing yet."""
    session = requests.Session()
    session.trust_env = False
    session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
    if options.ca_file:
        session.verify = options.ca_file
    adapter = _GuardedAdapter(guard)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    session.headers.clear()
    session.headers.update(
        {
            "User-Agent": "engagement",
            "Accept": "application/json",
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            **dict(options.headers),
        }
    )
    if options.token:
        session.headers["Authorization"] = f"Bearer {options.token}"
    return session


def _addresses(host: str, port: int) -> int:
    """How many addresses a name has; 1 where it has none, which connecting will tell."""
    try:
        return len(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError):
        return 1
