"""The warehouse against the topic: each row version once."""

from dataclasses import dataclass, field

from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from tests.e2e.support.topic import COLUMNS, Added, TopicOracle

_FIELDS = ", ".join("event_timestamp" if name == "event_ts" else name for name in COLUMNS)


@dataclass
class WarehouseOracle(TopicOracle):
    """What the warehouse makes of a topic."""

    project: str
    dataset: str
    emulator: str
    _added: Added = field(default_factory=lambda: Added("event"), init=False)

    def differences(self) -> list[str]:
        """What differs from what was read of the topic."""
        table = f"`{self.project}.{self.dataset}.enriched_events`"
        with self._client() as client:
            counted = client.query(f"select count(*) as n from {table}")  # noqa: S608 names of ours
            (total,) = (row["n"] for row in counted.result())
            rows = [
                ((row["kafka_partition"], row["kafka_offset"]), tuple(row.values()[2:]))
                for row in client.query(
                    f"select kafka_partition, kafka_offset, {_FIELDS} from {table} where {self._unseen()}"  # noqa: S608
                ).result()
            ]
        return self._added.differences(self.topic.events, rows, total)

    def _unseen(self) -> str:
        last = self._added.beyond()
        seen = " or ".join(f"kafka_partition = {p} and kafka_offset <= {offset}" for p, offset in last.items())
        return f"not ({seen})" if seen else "true"

    def _client(self) -> bigquery.Client:
        return bigquery.Client(
            self.project,
            AnonymousCredentials(),  # type: ignore[no-untyped-call]
            client_options={"api_endpoint": f"http://{self.emulator}"},
        )
