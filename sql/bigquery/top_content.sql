-- The contents with the highest score among the events since a time, newest versions only; ties by content_id.
select
    content_id,
    max(content_title) as content_title,
    max(content_type) as content_type,
    count(*) as events,
    coalesce(sum(engagement_seconds), 0) as engagement_seconds,
    sum(base * (10000 + least(coalesce(cast(engagement_pct * 100 as int64), 0), 10000))) / 100000 as score
from (
    select
        *,
        case event_type when 'play' then 10 when 'pause' then 5 when 'finish' then 30 when 'click' then 3 end as base
    from {current_events}
    where event_timestamp >= @since and content_id is not null
)
group by content_id
order by score desc, content_id
limit @limit
