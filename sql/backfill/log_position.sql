-- A place in the log: every change that was written by now lies before it.
select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint as place
