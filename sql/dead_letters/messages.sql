select topic, kafka_partition, kafka_offset, stage, kafka_ts, code, detail, sink, attempts, batch_id, status, history,
    raw_value, header_names, replay_of
from letters
where {condition}
