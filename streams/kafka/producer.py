"""Transactions under a stable id, and what is suspicious about one."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)

from headrace.streams.errors import Aborted
from headrace.streams.kafka.client import (
    LARGEST_BYTES,
    translated,
)

if TYPE_CHECKING:
    from headrace.streams.kafka.cluster import Cluster

__all__ = ["SLOW_S", "TransactionalProducer"]

log = logging.getLogger("headrace.kafka")

SLOW_S = 1.0
"""A request that takes longer may have been sent again."""
MARKED_S = 5.0
"""A commit is answered before its markers are written; after so long they are."""
_SURELY = 0.9
"""For this part of its timeout a transaction is sure not to have timed out."""
_ANSWER_S = 1.0
"""What takes so much longer than it should is not answered any more."""
_BROKEN = re.compile(r"REQTMOUT|FAIL .*in state UP(?!.*_DESTROY_BROKER)")
"""A line of the client's log that says that a connection in use broke, or that a request was given up."""
_GONE = re.compile(r"DESTROY .*Sending TERMINATE to (?!.*/bootstrap$)")
"""A line of it that says that a broker is among those of the cluster no more."""
_DEAF = "nobody who coordinates the group answers this client, and it may wait for one that is gone: another asks anew"


class TransactionalProducer:
    """Transactions under a stable id. After any trouble: `drop` it, make a new one, recover.

    Aborting is not offered: an abort soon after a begin is fatal now and then, and a new producer with the same id
    aborts the old transaction all the same. `prove` aborts, as nothing depends on whether that succeeds.

    `suspicious` says that a request of a transaction may have been sent twice (a connection broke meanwhile, or it was
    slow). The client has no KIP-890: a late copy would end the next transaction, or set offsets back in it, so that one
    needs a new producer.
    """

    def __init__(self, cluster: Cluster, transactional_id: str, timeout_ms: int) -> None:
        self._news = news = _News()
        self._began_at: float | None = None
        self._committed_at = 0.0
        self._config = cluster.config
        self._timeout_s = timeout_ms / 1000
        self._patience_s = 0.75 * self._timeout_s
        self._producer = Producer(
            {
                "linger.ms": 50,  # a commit does not wait for it
                "batch.num.messages": 100_000,
                "batch.size": 1_000_000,
                "queue.buffering.max.messages": 1_000_000,
                "queue.buffering.max.kbytes": 1_048_576,
                "message.max.bytes": LARGEST_BYTES,
                "compression.type": "lz4",
                "delivery.timeout.ms": timeout_ms,
                **cluster.config,
                "transactional.id": transactional_id,
                "transaction.timeout.ms": timeout_ms,
                "error_cb": news.failed,
                # A connection that breaks in mid-request reaches no callback, but each time the log of this context.
                "debug": "broker",
                "log_level": 7,
            },
            logger=news,
        )
        try:
            self._call("init_transactions")
        except BaseException:
            del self._producer  # it ends: else it would go on trying beside whoever follows, and fence them
            raise
        news.suspicious = False

    @property
    def suspicious(self) -> bool:
        """Whether a late copy of a request may reach the next transaction; what the client noticed is served first.

        It notes that a connection broke before it sends the request again, so before any answer: nothing is waited for.
        """
        self._serve()
        return self._news.suspicious

    def begin(self) -> None:
        """Open a transaction."""
        self._serve()  # what broke before is not about this transaction
        self._call("begin_transaction")
        self._began_at, self._news.open = time.monotonic(), True

    def send(self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Any = None) -> None:
        """Add a record to the transaction."""
        try:
            if headers:
                self._producer.produce(topic, value, key, partition, headers=headers)
            else:
                self._producer.produce(topic, value, key, partition)
        except BufferError:
            self._await_room()
            self.send(topic, partition, key, value, headers)
        except KafkaException as error:
            if error.args[0].code() == KafkaError._FATAL:
                self._serve()  # raises what was fatal: in a request before this one, in the client's own thread
            raise translated(error) from error

    def _await_room(self) -> None:
        """The queue is full: wait until some of it is delivered, or Kafka has been away for too long."""
        deadline = time.monotonic() + 60
        full = len(self._producer)
        while len(self._producer) >= full:
            if time.monotonic() > deadline:
                raise Aborted("nothing of the transaction was delivered within 60 s")
            self._serve(0.05)

    def offsets(self, offsets: Mapping[tuple[str, int], int], metadata: Any) -> None:
        """Add the consumed offsets to the transaction.

        The client asks once who coordinates a group. Should that broker go away, and the cluster not list it meanwhile,
        it waits for ever for the one that it knew, whatever its timeout (librdkafka issues 5456 and 5511).
        """
        positions = [TopicPartition(topic, p, offset) for (topic, p), offset in offsets.items()]
        self._serve()
        if self._news.gone:
            raise Aborted(_DEAF)
        self._news.grouped = True
        within_s = self._patience_s - 5.0
        _bounded(
            partial(self._call, "send_offsets_to_transaction", positions, metadata, 5.0, within_s=within_s),
            self._patience_s + _ANSWER_S,
        )

    def prove(self, place: tuple[str, int], group: str) -> None:
        """Raise `Fenced` if another producer has started under this id since; this one is to be dropped after that.

        The coordinator tells from an offset of `place` that is never committed, in the name of no member of `group`.
        Raises `Aborted` where it does not say: it ends a transaction that lasts too long under a new epoch, too.
        """
        if self._began_at is not None:
            left_s = _SURELY * self._timeout_s - (time.monotonic() - self._began_at)
            if left_s <= 0:
                raise Aborted("the coordinator may have ended the transaction by itself")
            self._call("abort_transaction", left_s, within_s=0.0)
        nobody = Consumer({**self._config, "group.id": group}, logger=log)
        try:
            self.begin()
            self.offsets({place: 0}, nobody.consumer_group_metadata())
        finally:
            nobody.close()

    def commit(self) -> None:
        """Commit; on return the transaction is in the log.

        Nobody waits as long as its coordinator: that ends a transaction that timed out under a new epoch, and tells
        this producer that another one has started.
        """
        self._call("commit_transaction", self._patience_s, within_s=0.0)
        self._began_at, self._committed_at = None, time.monotonic()

    def flush(self, within_s: float = 20.0) -> None:
        """Return when every record of the transaction has reached the log; `Aborted` when one does not in time.

        The client's own `flush` raises what is fatal as an object that no `except` catches.
        """
        deadline = time.monotonic() + within_s
        while len(self._producer):
            if time.monotonic() > deadline:
                raise Aborted(f"records of a transaction did not reach the log within {within_s:g} s")
            self._serve(0.005)

    def poll(self) -> None:
        """Serve callbacks while idle; what happens later than `MARKED_S` after a commit is about no transaction."""
        self._serve()
        self._news.open &= time.monotonic() < self._committed_at + MARKED_S

    def drop(self) -> None:
        """Forget this producer and whatever it has open; its successor's start aborts that."""
        self._producer.purge(in_queue=True, in_flight=True, blocking=False)

    def _serve(self, timeout_s: float = 0.0) -> None:
        """Serve the client's callbacks; what has become fatal to it is raised here, once, and by its next answer."""
        try:
            self._producer.poll(timeout_s)
        except KafkaException as error:
            raise translated(error) from error

    def _call(self, method: str, *args: Any, within_s: float = 60.0) -> None:
        """Call the client, to which an error does not refer after that."""
        began = time.monotonic()
        deadline = began + within_s
        while True:
            try:
                getattr(self._producer, method)(*args)
                self._news.suspicious |= time.monotonic() - began > SLOW_S
                return
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise translated(error) from error


def _bounded(call: Callable[[], None], seconds: float) -> None:
    """Do this in a thread, and leave it there with `Aborted` where it does not return."""
    answer: SimpleQueue[BaseException | None] = SimpleQueue()

    def ask() -> None:
        try:
            call()
            answer.put(None)
        except BaseException as error:  # raised in the caller's thread
            answer.put(error)

    threading.Thread(target=ask, name="headrace-offsets", daemon=True).start()
    try:
        error = answer.get(timeout=seconds)
    except Empty:
        raise Aborted(_DEAF) from None
    if error is not None:
        raise error


class _News:
    """What a client tells of its connections while a transaction is open, and of brokers since it knows a group's.

    It knows nothing of the producer: its client refers to it, and one that is dropped must not wait for the garbage
    collector to close its connections.
    """

    def __init__(self) -> None:
        self.suspicious = False
        self.open = False
        self.grouped = False
        self.gone = False

    def failed(self, error: KafkaError) -> None:
        """The client's callback for errors."""
        self.suspicious |= self.open
        log.info("producer: %s", error.str())

    def log(self, level: int, pattern: str, *values: Any) -> None:
        """One line of the client's log, served from its `poll`."""
        text = pattern % values if values else pattern
        self.suspicious |= self.open and _BROKEN.match(text) is not None
        self.gone |= self.grouped and _GONE.match(text) is not None
        if level >= logging.ERROR:
            log.log(level, "%s", text)
