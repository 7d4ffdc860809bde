"""The engine between Kafka and the sinks: which rows are due, written once, whatever crashed before."""
