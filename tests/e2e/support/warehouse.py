"""The warehouse against the topic: each row version once. Rows are only added: those seen equal are not read again."""

from dataclasses import dataclass, field

from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from tests.e2e.support.topic import COLUMNS, Place, TopicOracle, Values, compare

_FIELDS = ", ".join("event_timestamp" if name == "event_ts" else name for name in COLUMNS)


@dataclass
class WarehouseOracle(TopicOracle):
    """What the warehouse makes of a topic."""

    project: str
    dataset: str
    emulator: str
    _held: dict[Place, Values] = field(default_factory=dict, init=False)

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
        differences = compare("event", {p: v for p, v in self.topic.events.items() if p not in self._held}, rows)
        if not differences:
            self._held |= dict(rows)
            if total != len(self._held):
                differences.append(f"{total} rows for {len(self._held)} events")
        return differences

    def _unseen(self) -> str:
        last: dict[int, int] = {}
        for partition, offset in self._held:
            last[partition] = max(offset, last.get(partition, 0))
        seen = " or ".join(f"kafka_partition = {p} and kafka_offset <= {offset}" for p, offset in last.items())
        return f"not ({seen})" if seen else "true"

    def _client(self) -> bigquery.Client:
        return bigquery.Client(
            self.project,
            AnonymousCredentials(),  # type: ignore[no-untyped-call]
            client_options={"api_endpoint": f"http://{self.emulator}"},
        )
