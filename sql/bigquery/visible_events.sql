-- Which of some events a reader sees by now.
select distinct event_id
from {events}
where event_id in unnest(@event_ids)
