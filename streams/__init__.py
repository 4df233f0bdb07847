"""When, where from, where to: declaration, topology, runtime, journal, state, Kafka."""
