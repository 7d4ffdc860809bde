-- What the live ranking must show, worked out from the rows themselves and from nothing else: the independent
-- reference that `demo` compares Redis with. It shares no code with the pipeline, on purpose.
-- Parameters: window_start, window_end (timestamptz): the window [window_start, window_end).
with scored as (
    select
        e.content_id,
        e.event_type,
        e.event_ts,
        coalesce(e.duration_ms, 0) as duration_ms,
        -- 100 * duration_ms / 1000 / length, exact, then rounded half up (numeric rounds half away from zero)
        case
            when e.duration_ms is not null and c.length_seconds > 0
                then round(e.duration_ms::numeric / (10 * c.length_seconds::numeric), 2)
        end as pct,
        case e.event_type when 'play' then 10 when 'pause' then 5 when 'finish' then 30 when 'click' then 3 end as base
    from engagement_events as e
    left join content as c on e.content_id = c.id
    where
        e.content_id is not null
        and e.event_ts >= %(window_start)s
        and e.event_ts < %(window_end)s
        and (e.duration_ms is null or e.duration_ms >= 0)
)

select
    content_id::text as content_id,
    sum(base * (10000 + least(round(coalesce(pct, 0) * 100), 10000)))::bigint as units,
    count(*) as events,
    count(*) filter (where event_type = 'play') as play,
    count(*) filter (where event_type = 'pause') as pause,
    count(*) filter (where event_type = 'finish') as finish,
    count(*) filter (where event_type = 'click') as click,
    sum(duration_ms)::bigint as duration_ms
from scored
group by content_id
