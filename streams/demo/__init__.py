"""The demo: real flights through a real Kafka, by a publisher and a worker of their own, and what came of it."""
