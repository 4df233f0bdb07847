"""The one package that speaks to Kafka.

Small enough that a fake log can stand in for it: `Cluster` makes consumers, transactional producers and readers. Every
client error leaves here as one of our own: `Aborted` (recover from the journal), `Expelled` (join the group anew),
`Fenced` (end), `Unreachable`, `TopicError`, `Lost`.
"""

from headrace.streams.kafka.cluster import Cluster
from headrace.streams.kafka.consumer import GroupConsumer
from headrace.streams.kafka.producer import SLOW_S, TransactionalProducer
from headrace.streams.kafka.reader import Reader

__all__ = ["SLOW_S", "Cluster", "GroupConsumer", "Reader", "TransactionalProducer"]
