"""``headrace demo``: everything once, on this machine, in a minute."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from typing import Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from headrace.deploy import broker as local
from headrace.streams.commands.backtest import show_summary
from headrace.streams.commands.options import Context, Headrace, json_option, kafka_options
from headrace.streams.commands.output import console, emit, say, show, warn
from headrace.streams.demo.plane import Plane
from headrace.streams.demo.session import Session
from headrace.streams.errors import HeadraceError
from headrace.streams.loading import load_pipeline
from headrace.streams.pipeline import Pipeline
from headrace.streams.settings import Connection

__all__ = ["demo"]

REFERENCE = "headrace.examples.flights:flights"
CONTEST = "headrace.examples.contest:contest"
_INSTANCE = "demo"
_LIVE = 10_000


@click.command(cls=Headrace)
@click.option("--events", type=click.IntRange(min=100), default=60_000, show_default=True, help="How many flights.")
@click.option("--all", "everything", is_flag=True, help="All 336,776 flights of 2013.")
@click.option(
    "--live", type=click.IntRange(min=0), show_default="a sixth, 10000 at most", help="How many of them live."
)
@click.option("--rate", type=click.FloatRange(min=1), default=1_000.0, show_default=True, help="Live events a second.")
@click.option("--keep", is_flag=True, help="Leave the broker and the control plane for a look.")
@kafka_options
@json_option
@click.pass_context
def demo(
    ctx: click.Context, events: int, everything: bool, live: int | None, rate: float, keep: bool, json_to: str | None
) -> None:
    """Publish real flights to a real Kafka, predict, label and learn from them, and show what came of it.

    The history is published at full speed, the last part live at a rate. A few records are bad on purpose. Then the
    same flights are led by a poor model, until the gate promotes a better one on evidence. The control plane runs
    beside it, and its page can be looked at. It starts a broker of its own unless a cluster is
    named. Everything that was started is stopped.
    Exit 1 when a conservation law is broken.
    """
    pipeline = load_pipeline(REFERENCE)
    limit = None if everything else events
    began = time.monotonic()
    with _stoppable(), _cluster(ctx.ensure_object(Context), keep) as where:
        with Session(pipeline, REFERENCE, where) as session:
            session.create_topics(load_pipeline(CONTEST), CONTEST)
            session.start_plane(keep)
            session.start(limit, _live(live, limit), rate)
            with _bars(session, limit, rate):
                pass
            session.stop_worker()
            summary = session.summary()
            value = summary.plain() | session.figures()
            contest = load_pipeline(CONTEST)
            promotions = _contest(session, contest)
            value |= {"promotions": promotions, "seconds": round(time.monotonic() - began, 1)}
        if emit(json_to, value):
            show_summary(summary)
            _figures(value)
            _promotions(contest.champion, promotions)
        _further(where.bootstrap, session.plane if keep else None)
    if not all(summary.laws.values()):
        ctx.exit(1)


def _live(wanted: int | None, limit: int | None) -> int:
    """How many come live; without a wish most of them come before, as catching up is to be seen, too."""
    if wanted is None:
        return _LIVE if limit is None else min(_LIVE, limit // 6)
    return wanted if limit is None else min(wanted, limit)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does: by way of everybody's clean-up."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _cluster(context: Context, keep: bool) -> Iterator[Connection]:
    """The cluster that was named, or a broker of the demo's own with empty data, which takes no properties."""
    if context.named:
        context.cluster()
        yield context.connection
        return
    local.stop(instance=_INSTANCE)
    try:
        status = local.start(instance=_INSTANCE, fresh=True)
        if status.bootstrap is None:
            raise HeadraceError("The local broker did not say where it listens: see `headrace broker status`.")
        say(f"Kafka {status.version} at {status.bootstrap}")
        yield Connection(status.bootstrap)
    except BaseException:
        local.stop(instance=_INSTANCE)
        raise
    if not keep:
        local.stop(instance=_INSTANCE)


@contextlib.contextmanager
def _bars(session: Session, limit: int | None, rate: float) -> Iterator[None]:
    """Both phases under two progress bars, or as lines where there is no terminal."""
    with _progress() as bars:
        publisher = bars.add_task("published", total=None)
        worker = bars.add_task("predicted", total=limit)

        said = published = False

        def show_progress() -> None:
            nonlocal said, published
            if not said and session.plane is not None and session.plane.address is not None:
                said = True
                bars.console.print(f"The page, while this runs: {session.plane.address}", soft_wrap=True)
            if not published and session.history:
                published = True
                _phase(f"Published {session.published:,} records of the history; a worker starts.")
            bars.update(publisher, completed=session.published, total=session.total)
            bars.update(worker, completed=session.watcher.predictions)

        session.history_done(show_progress)
        caught_up = session.caught_up_per_s
        _phase("Caught up." if caught_up is None else f"Caught up at {caught_up:,.0f} events a second.")
        _phase(f"Live: the other records, at {rate:,.0f} events a second.")
        session.live_done(show_progress)
        yield


def _contest(session: Session, contest: Pipeline) -> list[dict[str, Any]]:
    """The last phase, under a bar of its own: as many predictions as there were before."""
    _phase("The contest: the same flights once more, led by a poor model.")
    with _progress() as bars:
        bar = bars.add_task("predicted once more", total=session.watcher.predictions)
        return session.contest(contest, CONTEST, lambda: bars.update(bar, completed=session.watcher.predictions))


def _progress() -> Progress:
    terminal = console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal)


def _phase(text: str) -> None:
    """A line on stderr where no bar tells how far it is."""
    if not console(stderr=True).is_terminal:
        warn(text)


def _figures(value: dict[str, Any]) -> None:
    latency = value["latency_ms"]
    rows: list[tuple[str, Any]] = [
        ("events a second while catching up", value["events_per_s"]),
        ("event to readable prediction, live, p50 (ms)", latency["p50"]),
        ("event to readable prediction, live, p99 (ms)", latency["p99"]),
        ("seconds in all", value["seconds"]),
    ]
    show("", ("figure", "value"), [(name, None if number is None else f"{number:,.1f}") for name, number in rows])


def _promotions(first: str, promotions: list[dict[str, Any]]) -> None:
    rows = [(p["version"], p["from"], f"{p['evidence']['difference']:.3f}", p["why"]) for p in promotions]
    if rows:
        show(f"Led by {first} at first; promoted by the gate", ("version", "from", "lower loss by", "why"), rows)
    else:
        say(f"Led by {first}: so few flights are no evidence yet that another model is better.")


def _further(bootstrap: str, plane: Plane | None) -> None:
    if plane is None:
        say("Look further: `headrace demo --keep` leaves the broker and the control plane with its page.")
        return
    say("The broker and the control plane are left running. Look further:")
    for line in (
        f"  {plane.address}",
        f"  headrace --bootstrap {bootstrap} tail {REFERENCE} predictions --from-beginning -n 3",
        f"  headrace --bootstrap {bootstrap} dead-letter list {REFERENCE}",
        f"  headrace --bootstrap {bootstrap} audit {REFERENCE}",
        f"  headrace --bootstrap {bootstrap} models {CONTEST} history",
        f"  kcat -b {bootstrap} -X isolation.level=read_committed -t flights.predictions -C -c 3",
        f"  kill {plane.pid}  # ends the control plane",
        "  headrace broker stop --instance demo",
    ):
        say(line)
