-- The rows as contract TABLE_ROWS has them, but for read_ts: ids and JSON as text, times in whole microseconds, NULL where
-- they are infinite or more than a bigint holds. Spark adds a range of ids and one of event times to it.
select
    id,
    content_id::text as content_id,
    user_id::text as user_id,
    event_type,
    case
        when isfinite(event_ts) and event_ts < timestamptz '294247-01-01 00:00:00Z'
            then (extract(epoch from event_ts) * 1000000)::bigint
    end as event_us,
    duration_ms,
    device,
    raw_payload::text as raw_payload,
    event_ts
from engagement_events
