-- In the order in which the messages came, which is the order in which they are sent again.
-- Two digits a byte: this engine counts characters of texts only.
select topic, kafka_partition, kafka_offset, stage, arrow_cast(kafka_ts, 'Int64') as kafka_us, kafka_date, sink,
    coalesce(length(encode(raw_value, 'hex')), 0) / 2 as size
from letters
where {condition}
order by topic, kafka_partition, kafka_offset, stage, kafka_ts
