-- Outcomes of the external system for rows committed in [since, until): how many, and how long after it they came.
-- Rows of a snapshot carry the time at which it was taken, so they tell nothing about delay.
select
    count(*) filter (where status = 'delivered') as delivered,
    count(*) filter (where status = 'rejected') as dead_letters,
    quantile_cont(date_diff('millisecond', commit_ts, last_ts), 0.5) filter (where op <> 'r') as p50_ms,
    quantile_cont(date_diff('millisecond', commit_ts, last_ts), 0.99) filter (where op <> 'r') as p99_ms
from read_parquet($files)
where commit_ts >= $since and commit_ts < $until
