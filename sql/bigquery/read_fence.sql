-- What is known of the fence of every topic and events' table. The age is by BigQuery's clock, since those of drivers
-- may differ.
select
    topic_id,
    events_table,
    state,
    next_offsets,
    former_offsets,
    streams,
    token,
    places,
    processed_timestamp,
    event_from,
    event_to,
    timestamp_diff(current_timestamp(), updated_at, second) as age_seconds
from {fence}
