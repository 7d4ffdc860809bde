-- The events among some ranges of ids.
select distinct event_id
from {events}
where {wanted}
