-- One statement for a whole batch: one JSON parameter is cheaper to build and to send than thousands of values.
-- Ids come from the sequence; they are returned so that later updates and deletes touch only the generator's rows.
insert into engagement_events (content_id, user_id, event_type, event_ts, duration_ms, device, raw_payload)
select content_id, user_id, event_type, event_ts, duration_ms, device, raw_payload
from json_to_recordset(%(rows)s) as given (
    content_id uuid, user_id uuid, event_type text, event_ts timestamptz, duration_ms int, device text,
    raw_payload jsonb
)
returning id
