"""A local HTTP server that answers as a script says, over TLS too; it keeps what it was sent before it decides."""

import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DRIP_SECONDS = 0.1
_MORE_THAN_A_BACKLOG = 4


@dataclass(frozen=True)
class Reply:
    """One answer; `hang_up` closes the connection without one, `hold_seconds` waits before it."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    hold_seconds: float = 0.0
    hang_up: bool = False
    promised_bytes: int | None = None
    """What Content-Length says, when it is not the body's length."""
    drip: bytes = b""
    """What comes in the place of an answer, after `before`, again and again, until the client has enough."""
    before: bytes = b""


@dataclass(frozen=True)
class Request:
    """What came."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


class Scripted(ThreadingHTTPServer):
    """Answers with `script`, one after the other, then with `otherwise`."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: list[Reply] = []
        self.otherwise = Reply()
        self.requests: list[Request] = []
        self.connections = 0
        self.released = threading.Event()
        self._lock = threading.Lock()
        self.scheme = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}/events"

    def reset(self, *script: Reply, otherwise: Reply | None = None) -> None:
        """Forget what came, and answer with this from now on."""
        with self._lock:
            self.script, self.otherwise = list(script), otherwise or Reply()
            self.requests, self.connections = [], 0
            self.released.set()
            self.released = threading.Event()

    def take(self, request: Request) -> Reply:
        with self._lock:
            self.requests.append(request)
            return self.script.pop(0) if self.script else self.otherwise

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 the library's signature
        self.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 the library's signature
        """A client that hung up, or does not trust us, is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Scripted

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        reply = self.server.take(Request(self.path, dict(self.headers.items()), body))
        if reply.hold_seconds:
            self.server.released.wait(reply.hold_seconds)
        if reply.hang_up:
            self.close_connection = True
            return
        self.wfile.write(reply.before)
        while reply.drip:
            self.wfile.write(reply.drip)
            if self.server.released.wait(_DRIP_SECONDS):
                return
        self.send_response(reply.status)
        length = len(reply.body) if reply.promised_bytes is None else reply.promised_bytes
        for name, value in {"Content-Length": str(length), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)
        self.close_connection = length != len(reply.body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def full_backlog() -> Iterator[int]:
    """A port of this machine that answers no more connections, as a packet filter that drops them does."""
    with socket.socket() as listening, ExitStack() as waiting:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        end = listening.getsockname()
        for _ in range(_MORE_THAN_A_BACKLOG):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(end)
        yield end[1]


@contextmanager
def serving(tls: "Authority | None" = None, host: str = "127.0.0.1") -> Iterator[Scripted]:
    """A server that runs; with an authority it speaks TLS with a certificate for `host`."""
    server = Scripted()
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.certificate_for(host))
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        server.scheme = "https"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.reset()
        server.shutdown()
        server.server_close()
        thread.join(10)


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._signed("test authority", self._key.public_key(), authority=True)
        self.file = folder / "authority.pem"
        self.file.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def certificate_for(self, host: str) -> Path:
        """File with a key and its certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._signed(host, key.public_key(), authority=False)
        path = self._folder / f"{host}.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        return path

    def _signed(self, name: str, key: ec.EllipticCurvePublicKey, *, authority: bool) -> x509.Certificate:
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        names: list[x509.GeneralName] = [x509.DNSName("localhost")]
        if name == "127.0.0.1":
            names = [x509.IPAddress(ipaddress.ip_address(name))]
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
        )
        return builder.sign(self._key, hashes.SHA256())
