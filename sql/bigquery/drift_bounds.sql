-- Smallest and largest id, NULL of an empty table.
select
    min(event_id) as first_id,
    max(event_id) as last_id
from {events}
