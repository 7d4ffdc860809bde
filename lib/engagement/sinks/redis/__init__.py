"""The live ranking in Redis: sharded by Kafka partition, fenced by offset, a sliding window without Spark state."""
