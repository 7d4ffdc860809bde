"""The one transform of stream and backfill: messages -> decode -> validate -> enrich, pure DataFrame functions."""
