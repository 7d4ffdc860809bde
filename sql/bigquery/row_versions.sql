-- Every stored version of the events above an id, under the names that the demo's comparison gives its columns.
select
    event_id,
    op,
    version,
    content_id,
    user_id,
    event_type,
    event_timestamp as event_ts,
    duration_ms,
    device,
    raw_payload,
    content_slug as slug,
    content_title as title,
    content_length_seconds as length_seconds,
    engagement_seconds,
    engagement_pct
from {events}
where event_id > @after
