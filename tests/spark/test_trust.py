"""The list of whom a machine trusts, as Java reads it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pyspark.sql import SparkSession

from engagement.embedded.trust import write_store

pytestmark = [pytest.mark.spark, pytest.mark.timeout(120)]

NOBODY = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


def authority(name: str) -> bytes:
    """The certificate of an authority of a test's own, as PEM."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    lasting = made.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    signed = lasting.sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def trusted(spark: SparkSession, store: Path) -> list[str]:
    """Whom Java trusts by a store that it opens without a password."""
    java = spark.sparkContext._jvm
    assert java is not None
    opened = java.java.security.KeyStore.getInstance("PKCS12")
    opened.load(java.java.io.FileInputStream(str(store)), None)
    aliases = list(java.java.util.Collections.list(opened.aliases()))
    assert all(opened.isCertificateEntry(alias) for alias in aliases)
    return sorted(str(opened.getCertificate(alias).getSubjectX500Principal().getName()) for alias in aliases)


def test_java_trusts_whom_the_machine_trusts(spark: SparkSession, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.crt"
    bundle.write_bytes(b"# a comment\n" + authority("one") + NOBODY + authority("two"))
    store = write_store({}, tmp_path / "store.p12", (tmp_path / "elsewhere", bundle))
    assert store == tmp_path / "store.p12"
    assert trusted(spark, store) == ["CN=one", "CN=two"]


def test_another_list_can_be_named(spark: SparkSession, tmp_path: Path) -> None:
    usual, named = tmp_path / "usual.crt", tmp_path / "named.crt"
    usual.write_bytes(authority("usual"))
    named.write_bytes(authority("named"))
    store = write_store({"SSL_CERT_FILE": str(named)}, tmp_path / "store.p12", (usual,))
    assert store is not None
    assert trusted(spark, store) == ["CN=named"]


@pytest.mark.parametrize("content", [None, b"", NOBODY])
def test_without_a_list_java_keeps_its_own(tmp_path: Path, content: bytes | None) -> None:
    bundle = tmp_path / "bundle.crt"
    if content is not None:
        bundle.write_bytes(content)
    assert write_store({}, tmp_path / "store.p12", (bundle,)) is None
