"""HTTP sessions that speak only to addresses they may: checked on the connection itself, before a byte is sent.

Checking a name's addresses beforehand would leave a gap in which the name can come to mean another one. So each new
connection's peer is looked at, and TLS begins, and the request follows, only if it passes.
"""

import http.cookiejar
import ipaddress
import socket
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, Retry
from urllib3.connection import HTTPConnection, HTTPSConnection

from engagement.errors import EngagementError
from engagement.sinks.external.options import ExternalOptions

_METADATA = frozenset({ipaddress.ip_address("fd00:ec2::254")})
"""Where a cloud tells its machines their secrets, within the private networks; 169.254.169.254 is link-local."""
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_CONNECT_RETRIES = Retry(
    total=2, connect=2, read=0, redirect=0, status=0, other=0, backoff_factor=0.1, respect_retry_after_header=False
)
"""Only connecting is tried again down here: nothing was sent yet. All else has its verdict in answers.py."""


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


class _GuardedHttp(HTTPConnection):
    allow_private = False

    def _new_conn(self) -> socket.socket:
        return _checked(super()._new_conn(), self.host, allow_private=self.allow_private)


class _GuardedHttps(HTTPSConnection):
    allow_private = False

    def _new_conn(self) -> socket.socket:
        return _checked(super()._new_conn(), self.host, allow_private=self.allow_private)


class _PrivateHttp(_GuardedHttp):
    allow_private = True


class _PrivateHttps(_GuardedHttps):
    allow_private = True


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _GuardedHttp


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _GuardedHttps


class _PrivateHttpPool(HTTPConnectionPool):
    ConnectionCls = _PrivateHttp


class _PrivateHttpsPool(HTTPSConnectionPool):
    ConnectionCls = _PrivateHttps


class _GuardedAdapter(HTTPAdapter):
    def __init__(self, *, allow_private: bool) -> None:
        self._pools: dict[str, Any] = {"http": _HttpPool, "https": _HttpsPool}
        if allow_private:
            self._pools = {"http": _PrivateHttpPool, "https": _PrivateHttpsPool}
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=_CONNECT_RETRIES)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:  # noqa: ANN401
        """Make the pool, of guarded connections."""
        self.poolmanager = PoolManager(num_pools=connections, maxsize=maxsize, block=block, **options)
        self.poolmanager.pool_classes_by_scheme = self._pools


def new_session(options: ExternalOptions) -> requests.Session:
    """A session for one lane: one kept connection, no proxies, no cookies, no redirects; opens nothing yet."""
    session = requests.Session()
    session.trust_env = False
    session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
    if options.ca_file:
        session.verify = options.ca_file
    adapter = _GuardedAdapter(allow_private=options.allow_private)
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


def _checked(connection: socket.socket, host: str, *, allow_private: bool) -> socket.socket:
    try:
        check_address(host, str(connection.getpeername()[0]), allow_private=allow_private)
    except AddressError:
        connection.close()
        raise
    return connection
