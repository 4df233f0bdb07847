"""Replayable machine learning on Kafka: every state, model and prediction is a pure function of the log."""

__version__ = "0.1.0"
