"""The demo: its figures, its processes, and what it says of its phases."""

from __future__ import annotations

import contextlib
import io
import re
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headrace.streams.commands import demo
from headrace.streams.commands.options import Context
from headrace.streams.demo import session
from headrace.streams.demo import watcher as module
from headrace.streams.demo.watcher import Watcher
from headrace.streams.errors import Stalled
from headrace.streams.log import Record
from headrace.streams.settings import Connection, connection
from tests.small import small


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


def test_no_property_stands_on_a_command_line(monkeypatch: pytest.MonkeyPatch):
    """The publisher has them in its environment, where no other user of the machine sees them."""
    where = Connection("a:1", {"sasl.password": "hunter2", "log_level": "7"})
    started: list[tuple[list[str], dict[str, str]]] = []

    def start(command: list[str], env: dict[str, str], **_: Any) -> None:
        started.append((command, env))
        raise KeyboardInterrupt

    monkeypatch.setattr(session.subprocess, "Popen", start)
    with pytest.raises(KeyboardInterrupt), session.Session(small(), "p:p", where) as begun:
        begun.start(100, 10, 1.0)
    ((command, env),) = started
    assert "hunter2" not in " ".join(command)
    assert connection("a:1", None, env) == where


@pytest.mark.parametrize(
    ("option", "environ", "file", "own"),
    [
        ("a:1", {}, "", False),
        (None, {"HEADRACE_BOOTSTRAP": "a:1"}, "", False),
        (None, {"HEADRACE_KAFKA_BOOTSTRAP_SERVERS": "a:1"}, "", False),
        (None, {}, "bootstrap.servers=a:1", False),
        (None, {"HEADRACE_KAFKA_SECURITY_PROTOCOL": "SSL"}, "client.id=ann", True),
    ],
)
def test_a_cluster_is_named_by_option_variable_or_property(
    option: str | None,
    environ: dict[str, str],
    file: str,
    own: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """Else the demo starts a broker of its own, for which no property is meant."""
    monkeypatch.delenv("HEADRACE_BOOTSTRAP", raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    context = Context()
    context.bootstrap, context.kafka_config = option, str(tmp_path / "client.properties")
    (tmp_path / "client.properties").write_text(file)
    monkeypatch.setattr(Context, "cluster", lambda self: None)
    monkeypatch.setattr(demo.local, "stop", lambda instance: None)
    monkeypatch.setattr(demo.local, "start", lambda **_: SimpleNamespace(bootstrap="own:1", version="4"))
    with demo._cluster(context, keep=False) as where:
        assert where == Connection("own:1" if own else "a:1")


class _Session:
    """Goes through its phases at once."""

    def __init__(self, per_s: float | None) -> None:
        self.plane = SimpleNamespace(address="http://127.0.0.1:1/")
        self.watcher = SimpleNamespace(predictions=0)
        self.published, self.total, self.history = 0, 10, dict[str, int]()
        self.caught_up_per_s = per_s

    def history_done(self, show: Any) -> None:
        """Shown before and after the history is there."""
        show()
        self.published, self.history = 1_234, {"history": 1_000}
        show()
        show()

    def live_done(self, show: Any) -> None:
        """Shown once more."""
        show()

    def contest(self, pipeline: Any, reference: str, show: Any) -> list[Any]:
        """Shown while another pipeline predicts."""
        self.watcher = SimpleNamespace(predictions=7)
        show()
        return []


@pytest.mark.parametrize(("per_s", "caught_up"), [(5_432.1, " at 5,432 events a second."), (None, ".")])
def test_phases_are_plain_lines_without_a_terminal(
    per_s: float | None, caught_up: str, capsys: pytest.CaptureFixture[str]
):
    """Each phase is said once, on standard error; standard output stays free for results."""
    begun: Any = _Session(per_s)
    with demo._bars(begun, 10, 1_000.0):
        pass
    demo._contest(begun, small())
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "The page, while this runs: http://127.0.0.1:1/",
        "Published 1,234 records of the history; a worker starts.",
        f"Caught up{caught_up}",
        "Live: the other records, at 1,000 events a second.",
        "The contest: the same flights once more, led by a poor model.",
    ]


def test_a_terminal_has_bars_instead(monkeypatch: pytest.MonkeyPatch):
    """No line of a phase is there as well."""
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", terminal)
    begun: Any = _Session(None)
    with demo._bars(begun, 10, 1_000.0):
        pass
    assert "Caught up" not in terminal.getvalue()
    assert "predicted" in terminal.getvalue()
    begun.watcher.predictions = 8
    demo._contest(begun, small())
    assert "The contest" not in terminal.getvalue()
    assert re.search("predicted once more.*7/8", terminal.getvalue())


@pytest.mark.parametrize(("code", "ends"), [(0, None), (1, "ended with an error"), (None, "no progress for")])
def test_a_contest_that_does_not_go_on_is_ended(code: int | None, ends: str | None, monkeypatch: pytest.MonkeyPatch):
    """Its worker is waited for while it predicts, and no longer."""
    worker = SimpleNamespace(poll=lambda: code)
    monkeypatch.setattr(session.subprocess, "Popen", lambda *args, **more: worker)
    monkeypatch.setattr(session, "Watcher", lambda *args: SimpleNamespace(predictions=0, close=lambda: None))
    monkeypatch.setattr(session.Cluster, "reader", lambda self: SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(session.registry, "shards", lambda *args: [])
    monkeypatch.setattr(session, "_STALL_S", 0.2)
    begun = session.Session(small(), "p:p", Connection("a:1"))
    shown: list[int] = []
    with contextlib.nullcontext() if ends is None else pytest.raises(Stalled, match=ends):
        assert begun.contest(small(), "q:q", lambda: shown.append(1)) == []
    assert shown
