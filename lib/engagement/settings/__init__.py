"""Settings: environment > .env > conf/*.yaml > running embedded stack > defaults, typed, bounded, checked at once."""

from engagement.settings.field import Declared
from engagement.settings.kafka import KafkaSettings
from engagement.settings.load import Resolved, load_settings, not_set, resolve
from engagement.settings.model import Settings, declared_settings
from engagement.settings.sections import (
    BackfillSettings,
    BigQuerySettings,
    ExternalSettings,
    GenerationSettings,
    MonitoringSettings,
    PathSettings,
    PostgresSettings,
    ProcessingSettings,
    ReconcileSettings,
    RedisSettings,
)
from engagement.settings.show import config_lines, secret_values
from engagement.settings.sources import SettingsFiles

__all__ = [
    "BackfillSettings",
    "BigQuerySettings",
    "Declared",
    "ExternalSettings",
    "GenerationSettings",
    "KafkaSettings",
    "MonitoringSettings",
    "PathSettings",
    "PostgresSettings",
    "ProcessingSettings",
    "ReconcileSettings",
    "RedisSettings",
    "Resolved",
    "Settings",
    "SettingsFiles",
    "config_lines",
    "declared_settings",
    "load_settings",
    "not_set",
    "resolve",
    "secret_values",
]
