-- How fresh the warehouse is: seconds from a new event to its row's processing, by day of it, over the last 7 days.
-- Only what the stream brought and only first versions: a backfill, a snapshot or a later change says nothing of delay.
-- Events that the source itself brought late (a phone that was offline) are in it too: look at the median first.
select
    date(processed_timestamp) as processed_date,
    count(*) as events,
    approx_quantiles(timestamp_diff(processed_timestamp, event_timestamp, second), 100)[offset(50)] as median_seconds,
    approx_quantiles(timestamp_diff(processed_timestamp, event_timestamp, second), 100)[offset(99)] as p99_seconds
from engagement.enriched_events
where
    processed_timestamp >= timestamp_sub(current_timestamp(), interval 7 day)
    and kafka_offset is not null
    and op = 'c'
group by processed_date
order by processed_date
