-- After a connection died in the middle of a commit: 'committed', 'aborted', 'in progress', or NULL when too old.
select pg_xact_status(%(transaction)s::xid8)
