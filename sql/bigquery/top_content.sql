-- The contents with the highest score among the events since a time, newest versions only; ties by content_id.
select
    content_id,
    max_by(content_title, named_at) as content_title,
    max_by(content_type, named_at) as content_type,
    count(*) as events,
    coalesce(sum(engagement_seconds), 0) as engagement_seconds,
    sum(base * (10000 + least(coalesce(cast(engagement_pct * 100 as int64), 0), 10000))) / 100000 as score
from (
    select
        *,
        if(content_slug is null, null, processed_timestamp) as named_at,
        case event_type when 'play' then 10 when 'pause' then 5 when 'finish' then 30 when 'click' then 3 end as base
    from {current_events}
    where event_timestamp >= @since and content_id is not null
)
group by content_id
order by score desc, content_id
limit @limit
