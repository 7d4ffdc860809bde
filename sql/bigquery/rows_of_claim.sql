-- Whether a claim's rows are there: they alone carry its time of processing. The times of its events, when it has any,
-- tell which days of the table to look at; a commit is all or nothing, so rows without a time need not be found.
select
    kafka_partition,
    min(kafka_offset) as least,
    max(kafka_offset) as greatest
from {events}
where
    processed_timestamp = @processed
    and kafka_partition is not null
    and (@event_from is null or event_timestamp between @event_from and @event_to)
group by kafka_partition
