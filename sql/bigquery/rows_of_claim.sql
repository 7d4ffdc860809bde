-- Whether a claim's rows of one partition are there: they alone carry its time of processing. The times of its events,
-- when it has any, tell which days of the table to look at; a commit is all or nothing, so rows without a time need not
-- be found.
select count(*) as found
from {events}
where
    processed_timestamp = @processed
    and kafka_partition = @kafka_partition
    and kafka_offset >= @first_offset
    and kafka_offset < @end_offset
    and (@event_from is null or event_timestamp between @event_from and @event_to)
