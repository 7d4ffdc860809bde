-- How far people get: for every content, plays, finishes and the share that finished, of 7 UTC days with today.
-- Run it where `engagement` is the dataset: bq query --use_legacy_sql=false < completion_by_content.sql
select
    content_id,
    max_by(content_title, if(content_title is null, null, event_date)) as content_title,
    sum(play) as plays,
    sum(finish) as finishes,
    round(100 * sum(finish) / nullif(sum(play), 0), 1) as finished_pct,
    sum(unique_users) as daily_users
from engagement.daily_engagement_summary
where event_date > date_sub(current_date(), interval 7 day) and content_id is not null
group by content_id
having plays > 0
order by plays desc
limit 100
