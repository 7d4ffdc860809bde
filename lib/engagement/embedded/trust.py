"""Whom this machine trusts, for the Java that set-up fetches: by itself it knows the public authorities only.

Where everything passes a company's proxy, that would be nobody, and no jar could be downloaded.
"""

import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import NoEncryption
from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12Certificate, serialize_java_truststore
from cryptography.utils import CryptographyDeprecationWarning

VARIABLE = "SSL_CERT_FILE"
"""Where OpenSSL, and so pip, is told of another list."""
BUNDLES = (
    Path("/etc/ssl/certs/ca-certificates.crt"),  # Debian, Ubuntu, Alpine
    Path("/etc/pki/tls/certs/ca-bundle.crt"),  # Fedora, Red Hat
    Path("/etc/ssl/ca-bundle.pem"),  # SUSE
)
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def write_store(env: Mapping[str, str], store: Path, bundles: tuple[Path, ...] = BUNDLES) -> Path | None:
    """Write the machine's list as a store without a password; None where there is no list, or nobody in it."""
    named = [Path(env[VARIABLE])] if env.get(VARIABLE) else []
    bundle = next((path for path in (*named, *bundles) if path.is_file()), None)
    certificates = [] if bundle is None else list(_certificates(bundle.read_bytes()))
    if not certificates:
        return None
    entries = [PKCS12Certificate(each, str(number).encode()) for number, each in enumerate(certificates)]
    store.write_bytes(serialize_java_truststore(entries, NoEncryption()))
    return store


def _certificates(bundle: bytes) -> Iterator[x509.Certificate]:
    for block in _BLOCK.findall(bundle):
        try:
            with warnings.catch_warnings():
                # Some authorities are older than the rules for them.
                warnings.simplefilter("ignore", CryptographyDeprecationWarning)
                yield x509.load_pem_x509_certificate(block)
        except ValueError:  # one that nobody can read vouches for nobody
            continue
