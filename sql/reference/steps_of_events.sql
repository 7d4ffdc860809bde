-- Where some events count on the ranking: content and step of ten seconds, among event times [start, end).
-- Parameters: ids (array of bigint), window_start, window_end (timestamptz).
select distinct
    e.content_id::text as content_id,
    (floor(extract(epoch from e.event_ts) / 10) * 10)::bigint as second
from engagement_events as e
where
    e.id = any(%(ids)s)
    and e.content_id is not null
    and e.event_ts >= %(window_start)s
    and e.event_ts < %(window_end)s
