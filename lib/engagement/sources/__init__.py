"""Where rows come from: the Kafka topic and the content catalogue; sources never import sinks."""
