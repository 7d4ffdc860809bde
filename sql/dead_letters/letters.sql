select topic, kafka_partition, kafka_offset, stage, kafka_ts, code, detail, sink, attempts, batch_id, status, history
from letters
where {condition}
order by kafka_ts desc, topic, kafka_partition, kafka_offset desc, stage
limit {limit}
