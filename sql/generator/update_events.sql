update engagement_events as event
set content_id = given.content_id, event_type = given.event_type, duration_ms = given.duration_ms
from json_to_recordset(%(rows)s) as given (id bigint, content_id uuid, event_type text, duration_ms int)
where event.id = given.id
