-- Row versions of the lake's table in a range of event times, by UTC day; a deletion without a time goes by Kafka's.
-- Names: first_day, last_day; start_us, end_us (microseconds since 1970), end exclusive.
select event_date as day, count(*) as rows
from events
where (event_date is null or event_date between date '{first_day}' and date '{last_day}')
    and coalesce(event_ts, kafka_ts, processed_ts) >= to_timestamp_micros({start_us})
    and coalesce(event_ts, kafka_ts, processed_ts) < to_timestamp_micros({end_us})
group by event_date
order by event_date
