-- What lies in a range of event times, by UTC day. Parameters: start, end (timestamptz), end exclusive.
select
    (event_ts at time zone 'UTC')::date as day,
    count(*) as rows,
    min(id) as first_id,
    max(id) as last_id
from engagement_events
where event_ts >= %(start)s and event_ts < %(end)s
group by day
order by day
