"""The settings of Kafka and Kafka Connect, and their form as properties of the two client libraries."""

from typing import Annotated, Literal

from annotated_types import Interval
from pydantic import AfterValidator, SecretStr

from engagement.settings import parse, urls
from engagement.settings.field import Section, setting
from engagement.settings.sections import UNSET, Identifier, Topic, Url

_JAAS_MODULES = {
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule",
    "SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule",
}
_NO_GROUP = "Spark assigns partitions itself and joins no consumer group"


class KafkaSettings(Section):
    """The topic and how to reach it."""

    bootstrap_servers: Annotated[str, AfterValidator(urls.bootstrap_servers)] = setting("KAFKA_BOOTSTRAP_SERVERS", "")
    """Brokers, host:port separated by commas; empty when no command needs them."""
    topic: Topic = setting("KAFKA_TOPIC_ENGAGEMENT_EVENTS", "engagement-events")
    """Topic of the events; letters, digits and . _ -, at most 249."""
    group_id: Identifier = setting("KAFKA_CONSUMER_GROUP_ID", "engagement-stream")
    """Name under which brokers see this job's readers (Spark's groupIdPrefix); it holds no offsets."""
    auto_offset_reset: Literal["earliest", "latest"] = setting("KAFKA_AUTO_OFFSET_RESET", "earliest")
    """Where a query without checkpoint and without fence begins: earliest or latest."""
    enable_auto_commit: bool = setting(
        "KAFKA_ENABLE_AUTO_COMMIT",
        False,
        note="no effect: offsets are kept with the data in each destination, never committed to Kafka",
    )
    """Accepted for compatibility."""
    session_timeout_ms: Annotated[int, Interval(ge=1_000, le=1_800_000)] = setting(
        "KAFKA_SESSION_TIMEOUT_MS", 45_000, note=f"no effect on the streaming job: {_NO_GROUP}"
    )
    """Milliseconds after which a group drops a silent member, 1000..1800000."""
    max_poll_records: Annotated[int, Interval(ge=1, le=1_000_000)] = setting("KAFKA_MAX_POLL_RECORDS", 5_000)
    """Records a reader takes per poll, 1..1000000; BATCH_SIZE limits a micro-batch."""
    connect_url: Url | Literal[""] = setting("KAFKA_CONNECT_URL", "")
    """Address of Kafka Connect's REST interface; empty when no command needs it."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = setting(
        "KAFKA_SECURITY_PROTOCOL", "PLAINTEXT"
    )
    """How brokers are spoken to: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = setting(
        "KAFKA_SECURITY_SASL_MECHANISM", "SCRAM-SHA-512"
    )
    """How the client proves who it is where SASL is used: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."""
    sasl_username: str = setting("KAFKA_SECURITY_SASL_USERNAME", "")
    """User for SASL."""
    sasl_password: Annotated[SecretStr, AfterValidator(parse.token)] = setting(
        "KAFKA_SECURITY_SASL_PASSWORD", UNSET, secret=True
    )
    """Password for SASL."""
    ssl_ca_location: str = setting("KAFKA_SECURITY_SSL_CA_LOCATION", "")
    """PEM file of the authorities that are trusted, on every worker too; empty: the system's, and Java's for Spark."""
    ssl_keystore_location: str = setting("KAFKA_SECURITY_SSL_KEYSTORE_LOCATION", "")
    """PEM file with the client's private key and certificate chain, on every worker too; empty: no certificate."""
    ssl_key_password: Annotated[SecretStr, AfterValidator(parse.token)] = setting(
        "KAFKA_SECURITY_SSL_KEY_PASSWORD", UNSET, secret=True
    )
    """Password of that private key; empty when it has none."""

    @property
    def security(self) -> dict[str, str]:
        """Security properties of the Java client, empty for PLAINTEXT; Spark wants each with the prefix `kafka.`."""
        properties = self._protocol()
        if self._uses_sasl:
            user, password = _quoted(self.sasl_username), _quoted(self.sasl_password.get_secret_value())
            module = _JAAS_MODULES[self.sasl_mechanism]
            properties["sasl.mechanism"] = self.sasl_mechanism
            properties["sasl.jaas.config"] = f"{module} required username={user} password={password};"
        if self._uses_tls and self.ssl_ca_location:
            properties |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": self.ssl_ca_location}
        if self._uses_tls and self.ssl_keystore_location:
            properties |= {"ssl.keystore.type": "PEM", "ssl.keystore.location": self.ssl_keystore_location}
            properties |= self._key_password()
        return properties

    def spark_options(self) -> dict[str, str]:
        """Return the options of Spark's Kafka source that settings decide; the caller adds the subscription."""
        options = {"bootstrap.servers": self.bootstrap_servers, "max.poll.records": str(self.max_poll_records)}
        return {f"kafka.{name}": value for name, value in (options | self.security).items()} | {
            "groupIdPrefix": self.group_id
        }

    def client_properties(self) -> dict[str, str]:
        """Return the properties of confluent-kafka (librdkafka), whose names differ from Java's."""
        properties = {"bootstrap.servers": self.bootstrap_servers} | self._protocol()
        if self._uses_sasl:
            properties["sasl.mechanism"] = self.sasl_mechanism
            properties["sasl.username"] = self.sasl_username
            properties["sasl.password"] = self.sasl_password.get_secret_value()
        if self._uses_tls and self.ssl_ca_location:
            properties["ssl.ca.location"] = self.ssl_ca_location
        if self._uses_tls and self.ssl_keystore_location:
            # One PEM file serves both: each reader takes its own blocks and skips the others.
            properties["ssl.key.location"] = self.ssl_keystore_location
            properties["ssl.certificate.location"] = self.ssl_keystore_location
            properties |= self._key_password()
        return properties

    def _protocol(self) -> dict[str, str]:
        plain = self.security_protocol == "PLAINTEXT"
        return {} if plain else {"security.protocol": self.security_protocol}

    def _key_password(self) -> dict[str, str]:
        password = self.ssl_key_password.get_secret_value()
        return {"ssl.key.password": password} if password else {}

    @property
    def _uses_sasl(self) -> bool:
        return self.security_protocol.startswith("SASL")

    @property
    def _uses_tls(self) -> bool:
        return self.security_protocol.endswith("SSL")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
