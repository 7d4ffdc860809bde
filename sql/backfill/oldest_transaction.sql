-- The oldest transaction that is still open; all below it are committed or rolled back.
select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as oldest_xid
