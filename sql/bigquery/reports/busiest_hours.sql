-- When people listen, read and watch: events of each UTC hour of the day, by kind of content, over the last 30 days.
select
    extract(hour from hour_bucket) as hour_of_day,
    content_type,
    sum(events) as events,
    sum(engagement_seconds) as engagement_seconds
from engagement.hourly_engagement_trends
where hour_bucket >= timestamp_sub(current_timestamp(), interval 30 day)
group by hour_of_day, content_type
order by hour_of_day, content_type
