from pathlib import Path

import pytest

from engagement.errors import ConfigError
from engagement.settings import KafkaSettings, SettingsFiles, load_settings

NOWHERE = SettingsFiles(Path("/nonexistent/project"))
SASL_SSL = {
    "KAFKA_BOOTSTRAP_SERVERS": "kafka:9093",
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SECURITY_SASL_MECHANISM": "SCRAM-SHA-512",
    "KAFKA_SECURITY_SASL_USERNAME": "reader",
    "KAFKA_SECURITY_SASL_PASSWORD": 'p"w\\1',
    "KAFKA_SECURITY_SSL_CA_LOCATION": "/ca.pem",
    "KAFKA_SECURITY_SSL_KEYSTORE_LOCATION": "/client.pem",
    "KAFKA_SECURITY_SSL_KEY_PASSWORD": "keypw",
}


def kafka(env: dict[str, str]) -> KafkaSettings:
    return load_settings(env, NOWHERE).kafka


def test_plain_text_needs_no_security_properties() -> None:
    settings = kafka({"KAFKA_BOOTSTRAP_SERVERS": "localhost:9092"})
    assert settings.security == {}
    assert settings.client_properties() == {"bootstrap.servers": "localhost:9092"}


def test_sasl_over_tls_in_the_java_clients_names() -> None:
    assert kafka(SASL_SSL).security == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required "
        'username="reader" password="p\\"w\\\\1";',
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": "/ca.pem",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": "/client.pem",
        "ssl.key.password": "keypw",
    }


def test_sasl_over_tls_in_librdkafkas_names() -> None:
    assert kafka(SASL_SSL).client_properties() == {
        "bootstrap.servers": "kafka:9093",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "reader",
        "sasl.password": 'p"w\\1',
        "ssl.ca.location": "/ca.pem",
        "ssl.key.location": "/client.pem",
        "ssl.certificate.location": "/client.pem",
        "ssl.key.password": "keypw",
    }


def test_sparks_options_carry_sparks_prefix() -> None:
    env = {**SASL_SSL, "KAFKA_MAX_POLL_RECORDS": "777", "KAFKA_CONSUMER_GROUP_ID": "team-a"}
    options = kafka(env).spark_options()
    assert options["kafka.bootstrap.servers"] == "kafka:9093"
    assert options["kafka.security.protocol"] == "SASL_SSL"
    assert options["kafka.max.poll.records"] == "777"
    assert options["groupIdPrefix"] == "team-a"


@pytest.mark.parametrize("missing", ["KAFKA_SECURITY_SASL_USERNAME", "KAFKA_SECURITY_SASL_PASSWORD"])
def test_sasl_without_who_or_password_is_refused(missing: str) -> None:
    with pytest.raises(ConfigError, match=missing):
        kafka({name: value for name, value in SASL_SSL.items() if name != missing})


def test_a_sasl_user_without_sasl_is_refused() -> None:
    with pytest.raises(ConfigError, match="KAFKA_SECURITY_PROTOCOL"):
        kafka({"KAFKA_SECURITY_SASL_USERNAME": "reader"})
