-- Smallest and largest id, NULL of an empty table.
select
    min(id) as first_id,
    max(id) as last_id
from engagement_events
