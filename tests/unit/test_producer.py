"""A producer that is dropped, or given up before it began, leaves nothing behind; none is waited for without an end."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headrace.streams.errors import Aborted
from headrace.streams.kafka.producer import TransactionalProducer

linux = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads as Linux shows them")


@linux
def test_the_client_of_a_dropped_producer_ends_without_the_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its threads and connections are no containers: the collector would not notice how many there are."""
    monkeypatch.setattr(TransactionalProducer, "_call", lambda *_, **__: None)
    cluster: Any = SimpleNamespace(config={"bootstrap.servers": "127.0.0.1:1"})
    gc.disable()
    try:
        before = _threads()
        producer = TransactionalProducer(cluster, "somebody", 10_000)
        assert _threads() > before
        producer.drop()
        del producer
        assert _threads() == before
    finally:
        gc.enable()


@linux
def test_a_start_that_was_given_up_is_not_tried_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the error is at hand the slot is opened again: a client that tried on beside it would fence the new one."""
    call = TransactionalProducer._call
    monkeypatch.setattr(TransactionalProducer, "_call", lambda self, method: call(self, method, 0.1, within_s=0.0))
    cluster: Any = SimpleNamespace(config={"bootstrap.servers": "127.0.0.1:1"})
    before = _threads()
    with pytest.raises(Aborted, match="No Kafka broker answers") as given_up:
        TransactionalProducer(cluster, "somebody", 10_000)
    assert given_up.value.__traceback__ is not None
    assert _threads() == before


@pytest.fixture
def grouped(monkeypatch: pytest.MonkeyPatch) -> tuple[TransactionalProducer, list[str]]:
    """A producer whose requests are answered at once, and what it was asked for."""
    asked: list[str] = []
    monkeypatch.setattr(TransactionalProducer, "_call", lambda _, method, *__, **___: asked.append(method))
    cluster: Any = SimpleNamespace(config={"bootstrap.servers": "127.0.0.1:1"})
    return TransactionalProducer(cluster, "somebody", 2_000), asked


def test_a_client_that_does_not_return_is_left_behind(
    grouped: tuple[TransactionalProducer, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker waited for it until its watchdog ended it, as the client heeds no timeout here."""
    producer, _ = grouped
    ever = threading.Event()
    monkeypatch.setattr(TransactionalProducer, "_call", lambda *_, **__: ever.wait())
    with pytest.raises(Aborted, match="another asks anew"):
        producer.offsets({("t", 0): 1}, None)
    ever.set()


def test_a_client_that_knows_of_a_broker_which_is_gone_is_not_asked(
    grouped: tuple[TransactionalProducer, list[str]],
) -> None:
    """It may have coordinated the group. One that was gone before its group was told of is not the one."""
    producer, asked = grouped
    news = producer._news
    news.log(7, "DESTROY [thrd:main]: Sending TERMINATE to 127.0.0.1:9092/1")
    producer.offsets({("t", 0): 1}, None)
    news.log(7, "DESTROY [thrd:main]: Sending TERMINATE to 127.0.0.1:9092/bootstrap")
    producer.offsets({("t", 0): 2}, None)
    news.log(7, "DESTROY [thrd:main]: Sending TERMINATE to 127.0.0.1:9092/1")
    with pytest.raises(Aborted, match="another asks anew"):
        producer.offsets({("t", 0): 3}, None)
    assert asked == ["init_transactions", *["send_offsets_to_transaction"] * 2]


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))
