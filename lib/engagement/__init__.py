"""Engagement events from PostgreSQL to a live ranking, once each."""
