-- Where the table's rows end, for a table that has no fence yet.
select
    kafka_partition,
    max(kafka_offset) + 1 as following
from {events}
where kafka_partition is not null and kafka_offset is not null
group by kafka_partition
