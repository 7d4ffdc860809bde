-- Ranges of ids that hold equally many rows of a range of event times, whatever gaps and clusters the ids have.
-- Parameters: start, end (timestamptz, end exclusive), rows (of a piece).
select
    min(id) as first_id,
    max(id) as last_id,
    count(*) as rows
from (
    select
        id,
        (row_number() over (order by id) - 1) / %(rows)s as piece
    from engagement_events
    where event_ts >= %(start)s and event_ts < %(end)s
) as numbered
group by piece
order by piece
