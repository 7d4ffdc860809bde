-- How fresh the warehouse is: seconds from an event to its row's processing, by day of processing, over the last 7 days.
-- Events that the source itself brought late (a phone that was offline) are in it too: look at the median first.
select
    date(processed_timestamp) as processed_date,
    count(*) as row_versions,
    approx_quantiles(timestamp_diff(processed_timestamp, event_timestamp, second), 100)[offset(50)] as median_seconds,
    approx_quantiles(timestamp_diff(processed_timestamp, event_timestamp, second), 100)[offset(99)] as p99_seconds
from engagement.enriched_events
where processed_timestamp >= timestamp_sub(current_timestamp(), interval 7 day)
group by processed_date
order by processed_date
