"""What is said of a group's members when the broker goes away while it is asked."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from headrace.streams.errors import Unreachable
from headrace.streams.kafka import Cluster


class _Silent(Future[Any]):
    """An answer that does not come in time; the test does not wait for it."""

    def result(self, timeout: float | None = None) -> Any:
        assert timeout is not None
        return super().result(timeout=0)


def test_no_answer_is_an_error_of_ours():
    """Whoever watches catches one kind of exception, and nobody takes silence for a group without members."""
    cluster = Cluster("here:9")
    cluster._admin = SimpleNamespace(describe_consumer_groups=lambda groups, **_: {groups[0]: _Silent()})  # type: ignore[assignment]
    with pytest.raises(Unreachable, match="No Kafka broker answers at here:9"):
        cluster.members(["p"])
