-- Which versions of some events the table holds. Their times tell which days to look at; a deletion may have no time.
select
    event_id,
    version
from {events}
where
    event_id in unnest(@event_ids)
    and (event_timestamp is null or @event_from is null or event_timestamp between @event_from and @event_to)
