-- A transaction id that is above all that were given out before: it takes one, since a snapshot's own bound may be that of
-- a transaction that is still open.
select pg_current_xact_id()::text::bigint as next_xid
