"""The external system: every row version is posted to a receiver that we do not control."""
