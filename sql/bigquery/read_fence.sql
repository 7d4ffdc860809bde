-- What is known of every topic's fence. The age is by BigQuery's clock, since drivers' clocks may differ.
select
    topic_id,
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
