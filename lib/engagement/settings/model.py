"""All settings as one frozen object, and the list of them."""

from functools import cache

from pydantic import BaseModel, ConfigDict

from engagement.settings.field import Declared, declared_in
from engagement.settings.kafka import KafkaSettings
from engagement.settings.sections import (
    BackfillSettings,
    BigQuerySettings,
    ExternalSettings,
    GenerationSettings,
    LakeSettings,
    MonitoringSettings,
    PathSettings,
    PostgresSettings,
    ProcessingSettings,
    ReconcileSettings,
    RedisSettings,
)


class Settings(BaseModel):
    """Everything a command can be told; pass a component its section, never the whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    postgres: PostgresSettings = PostgresSettings()
    kafka: KafkaSettings = KafkaSettings()
    redis: RedisSettings = RedisSettings()
    bigquery: BigQuerySettings = BigQuerySettings()
    lake: LakeSettings = LakeSettings()
    external: ExternalSettings = ExternalSettings()
    processing: ProcessingSettings = ProcessingSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    generation: GenerationSettings = GenerationSettings()
    backfill: BackfillSettings = BackfillSettings()
    reconcile: ReconcileSettings = ReconcileSettings()
    paths: PathSettings = PathSettings()


@cache
def declared_settings() -> tuple[Declared, ...]:
    """List every setting, by section, in the order documents show them."""
    found: list[Declared] = []
    for section, info in Settings.model_fields.items():
        model = info.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            found += declared_in(section, model)
    return tuple(found)
