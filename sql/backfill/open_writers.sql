-- Transactions that have written to the events table and are neither committed nor rolled back, as virtual transaction
-- ids: what they wrote cannot be read yet. Prepared ones, which have no process, too.
select
    virtualtransaction as transaction,
    pid
from pg_locks
where
    locktype = 'relation'
    and relation = 'engagement_events'::regclass
    and mode = 'RowExclusiveLock'
    and granted
order by virtualtransaction
