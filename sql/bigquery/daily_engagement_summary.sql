-- Every content's UTC days. Percentages are averaged in whole hundredths, half up, and scores added in units of a
-- hundred-thousandth of a point; each is divided once, so that nothing depends on the order in which rows are added.
-- A content is called as the newest catalogue has it that knew the content, by all its names.
select
    event_date,
    content_id,
    max_by(content_slug, named_at) as content_slug,
    max_by(content_title, named_at) as content_title,
    max_by(content_type, named_at) as content_type,
    count(*) as events,
    countif(event_type = 'play') as play,
    countif(event_type = 'pause') as pause,
    countif(event_type = 'finish') as finish,
    countif(event_type = 'click') as click,
    count(distinct user_id) as unique_users,
    coalesce(sum(engagement_seconds), 0) as engagement_seconds,
    round(sum(hundredths) / nullif(count(hundredths), 0)) / 100 as avg_engagement_pct,
    sum(base * (10000 + least(coalesce(hundredths, 0), 10000))) / 100000 as score
from (
    select
        *,
        date(event_timestamp) as event_date,
        if(content_slug is null, null, processed_timestamp) as named_at,
        cast(engagement_pct * 100 as int64) as hundredths,
        case event_type when 'play' then 10 when 'pause' then 5 when 'finish' then 30 when 'click' then 3 end as base
    from {current_events}
)
group by event_date, content_id
