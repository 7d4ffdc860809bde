"""The life of a dead letter after it was stored: looked at, sent again, discarded. No JVM is started for any of it."""
