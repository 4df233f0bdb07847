"""The demo's figures: what a watcher of predictions says of them."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from headrace.streams.demo import watcher as module
from headrace.streams.demo.watcher import Watcher
from headrace.streams.log import Record


class _Reader:
    """Gives these polls, one after the other, each at its time."""

    def __init__(self, polls: list[tuple[float, int]], monkeypatch: pytest.MonkeyPatch) -> None:
        self._polls, self._now, self.done = list(polls), 0.0, threading.Event()
        monkeypatch.setattr(module.time, "time", lambda: self._now)

    def reader(self) -> _Reader:
        return self

    def follow(self, starts: Any) -> None:
        """From the beginning."""

    def poll(self, limit: int, timeout_s: float) -> list[Record]:
        if not self._polls:
            self.done.set()
            return []
        self._now, count = self._polls.pop(0)
        return [Record("predictions", 0, i, b"k", b'{"offset": 0}', 0) for i in range(count)]

    def close(self) -> None:
        """Nothing to release."""


@pytest.mark.parametrize(
    ("polls", "per_s"),
    [
        ([(10.0, 800), (12.0, 600), (14.0, 1_000)], 400.0),
        ([(10.0, 2_500)], None),
        ([(10.0, 2_000), (10.01, 500)], None),
        ([(10.0, 0)], None),
    ],
)
def test_the_rate_is_of_what_came_after_the_first_transaction(
    polls: list[tuple[float, int]], per_s: float | None, monkeypatch: pytest.MonkeyPatch
):
    """What was there at once took no time that anybody saw; a history of one transaction has no rate."""
    reader = _Reader(polls, monkeypatch)
    watcher = Watcher(reader, "events", "predictions")  # type: ignore[arg-type]
    assert reader.done.wait(10)
    watcher.close()
    assert watcher.per_s == per_s
    assert watcher.predictions == sum(count for _, count in polls)
