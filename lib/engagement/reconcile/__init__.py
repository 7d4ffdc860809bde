"""Whether the sinks hold what PostgreSQL holds: found by sums over ranges of ids, told by id, and mended."""
