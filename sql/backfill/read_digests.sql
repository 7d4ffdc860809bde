-- What reconcile compares of each row: all but raw_payload, which a warehouse spells in its own way.
select
    id as event_id,
    content_id::text as content_id,
    user_id::text as user_id,
    event_type,
    case when isfinite(event_ts) then (extract(epoch from event_ts) * 1000000)::bigint end as event_us,
    duration_ms,
    device,
    id,
    event_ts
from engagement_events
