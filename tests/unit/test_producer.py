"""A producer that is dropped leaves nothing behind."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headrace.streams.kafka.producer import TransactionalProducer


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads as Linux shows them")
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


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))
