-- The rows of engagement_events as a sink's newest versions must show them, worked out by PostgreSQL from the rows
-- themselves: what `demo` compares lake and warehouse with. It shares no code with the pipeline, on purpose.
-- Parameter: after (bigint): only rows with a greater id.
select
    e.id as event_id,
    e.content_id,
    e.user_id,
    e.event_type,
    (extract(epoch from e.event_ts) * 1000000)::bigint as event_us,
    e.duration_ms,
    e.device,
    e.raw_payload::text as raw_payload,
    c.slug,
    c.title,
    c.length_seconds,
    (e.duration_ms::numeric / 1000)::numeric(12, 3) as engagement_seconds,
    case
        when e.duration_ms is not null and c.length_seconds > 0
            then round(e.duration_ms::numeric / (10 * c.length_seconds::numeric), 2)
    end as engagement_pct
from engagement_events as e
left join content as c on e.content_id = c.id
where e.id > %(after)s
