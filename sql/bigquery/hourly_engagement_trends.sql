-- What happened in every UTC hour, by kind of content and of event.
select
    hour_bucket,
    content_type,
    event_type,
    count(*) as events,
    count(distinct user_id) as unique_users,
    count(distinct content_id) as unique_contents,
    coalesce(sum(engagement_seconds), 0) as engagement_seconds,
    round(sum(hundredths) / nullif(count(hundredths), 0)) / 100 as avg_engagement_pct
from (
    select
        *,
        timestamp_trunc(event_timestamp, hour) as hour_bucket,
        cast(engagement_pct * 100 as int64) as hundredths
    from {current_events}
)
group by hour_bucket, content_type, event_type
