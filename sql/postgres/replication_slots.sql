-- The logical replication slots of this database and how far their readers are behind, for health and metrics.
-- lag_bytes: written but not yet confirmed by the reader; retained_bytes: WAL kept on disk for the slot.
SELECT
    slot_name,
    active,
    wal_status,
    CAST(pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn) AS BIGINT) AS lag_bytes,
    CAST(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) AS BIGINT) AS retained_bytes
FROM pg_catalog.pg_replication_slots
WHERE slot_type = 'logical' AND database = current_database()
ORDER BY slot_name;
