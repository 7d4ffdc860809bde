-- Every UTC day of [start_date, end_date): what happened, over all contents.
select
    event_date,
    sum(events) as events,
    sum(play) as play,
    sum(pause) as pause,
    sum(finish) as finish,
    sum(click) as click,
    count(distinct content_id) as contents,
    sum(engagement_seconds) as engagement_seconds,
    sum(cast(round(score * 100000) as int64)) / 100000 as score
from {daily_engagement_summary}
where event_date >= @start_date and event_date < @end_date
group by event_date
order by event_date
