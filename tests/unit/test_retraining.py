"""Retrained models in a worker: schedules that are declared late, and folds that take longer than one step."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from river.drift import ADWIN

from headrace import Retrain, retrain, watch_error
from headrace.schemas.published import number_of
from headrace.schemas.records import Command
from headrace.schemas.varint import long_bytes
from headrace.streams.checkpoint import Checkpoint
from headrace.streams.errors import Aborted, DeclarationError, Lost
from headrace.streams.identity.hashing import state_hash
from headrace.streams.journal import read
from headrace.streams.recovery import recover
from headrace.streams.replay.rebuild import examples_of
from headrace.streams.stages import retraining
from headrace.streams.stages.retraining import Draft, Logged, adoptions, drafted, fold, folded, logged
from headrace.streams.task import Task, Version
from headrace.streams.topology import group_of
from headrace.streams.worker.folding import Folding
from tests.inmemory import Lane, Log, topic
from tests.small import NOW_MS, Pickled, event, known, small

COUNT = 300


def events(first: int, last: int) -> list[Any]:
    return [event(f"e{n}", n / 20) for n in range(first, last)]


def labels(first: int, last: int) -> list[Any]:
    return [known(f"e{n}", n / 20 + 0.01, n % 3 == 0) for n in range(first, last)]


def waiting() -> Lane:
    """A lane that has learned, and whose last checkpoint has a model that catches up; then it is adopted."""
    lane = Lane(small(), Log(), Pickled())
    lane.publish(events(0, COUNT), labels(0, COUNT))
    lane.work(50)
    ask = Command("c", "retrain", 0, "me", "logreg", name="fresh")
    lane.log.begin()
    lane.log.send(topic("registry"), 0, None, msgspec.json.encode(ask))
    lane.log.commit()

    def checkpoint(lane: Lane) -> None:
        assert lane.task.chain.decisions is not None
        if lane.task.chain.decisions.waiting:
            Checkpoint(lane.task, Version.of(lane.pipeline), 0, topic("state"), lane.log).write(None)

    return lane.work(50, after=checkpoint)


@pytest.mark.parametrize("taken", [True, False])
def test_what_catches_up_is_folded_in_parts(monkeypatch: pytest.MonkeyPatch, taken: bool) -> None:
    """A worker that stands still for long is ended: no step of a recovery, and none that follows, learns the whole log.

    Whether the adoption was taken already, or only asked for, when the worker before died.
    """
    lane = waiting()
    asked = [b'"adopt"' in (record.value or b"") for record in lane.log.records[topic("registry"), 0]].index(True)
    journal = lane.log.records[topic("journal"), 0]
    while not taken and read(journal[-1].value or b"").ends[0] > asked:  # type: ignore[union-attr]
        journal.pop()
    learned: list[int] = []
    fold = retraining.fold

    def counted(declared: Any, draft: Any, examples: Any, entry: Any, last_n: int) -> Any:
        made = fold(declared, draft, examples, entry, last_n)
        learned.append(made.n - draft.n)
        return made

    monkeypatch.setattr(retraining, "fold", counted)
    monkeypatch.setattr(retraining, "_PART", 100)
    history = partial(logged, lane.log.reader, topic, 0)
    task = Task(lane.pipeline, group_of(), 0, topics=topic, codec=Pickled(), history=history)
    for _ in recover(task, lane.log, Version.of(lane.pipeline), topic, {}, new_reader=lane.log.reader):
        pass
    assert learned == [100, 100, 100] + [0] * taken
    if taken:
        assert state_hash(task.chain.stores.contents()) == state_hash(lane.task.chain.stores.contents())
    else:
        assert (task.chain.history.draft("fresh") or [None, 0])[1] == COUNT


def test_what_cannot_be_folded_yet_stops_no_recovery() -> None:
    """Examples that are gone matter to whoever adopts the model."""
    lane = waiting()
    task = lane.task
    assert task.chain.decisions is not None
    task.chain.decisions.retrain("logreg", None, {})
    lane.log.records[topic("examples"), 0] = lane.log.records[topic("examples"), 0][1:]
    history = logged(lane.log.reader, topic, 0, task.chain)
    task.chain.history = history
    assert list(drafted(task.chain, {"logreg-1"})) == []
    assert history.draft("logreg-1") is None


def test_what_is_not_adopted_in_what_is_replayed_is_not_folded() -> None:
    """Nobody waits for it: a worker folds it beside its cycle."""
    lane = waiting()
    assert lane.task.chain.decisions is not None
    lane.task.chain.decisions.retrain("logreg", None, {})
    lane.task.chain.history = history = logged(lane.log.reader, topic, 0, lane.task.chain)
    assert list(drafted(lane.task.chain, set())) == []
    assert len(list(drafted(lane.task.chain, {"logreg-1"}))) == 1
    assert (history.draft("logreg-1") or [None, 0])[1] == COUNT


@pytest.mark.parametrize("length", [5, 85, 100])
def test_a_copy_with_a_long_name_is_adopted(length: int) -> None:
    """The worker's own command is one that it reads: its id has a hundred characters at most."""
    name = "n" * length
    lane = Lane(small(), Log(), Pickled())
    lane.publish(events(0, 20), labels(0, 20))
    ask = Command("c", "retrain", 0, "me", "logreg", name=name)
    lane.log.begin()
    lane.log.send(topic("registry"), 0, None, msgspec.json.encode(ask))
    lane.log.commit()
    lane.work(50)
    assert lane.task.chain.decisions is not None
    assert lane.task.chain.decisions.retrained == {name: "logreg"}


def test_ids_of_adoptions_stay_as_they_were() -> None:
    """Where they are short enough: a worker of before has asked for the same."""
    lane = Lane(small(), Log(), Pickled())
    decisions = lane.task.chain.decisions
    assert decisions is not None
    lane.publish(events(0, 1), [])
    lane.work(50)
    decisions.retrain("logreg", None, {})
    (asked,) = adoptions(lane.task)
    assert asked.id == f"adopt-logreg-1-{decisions.registry['version']}"


@pytest.mark.parametrize("react", [False, True])
def test_copies_must_have_names_that_are_names(react: bool) -> None:
    """Of a model with a long name they would be too long: that is said where it is declared."""

    def declared(name: str) -> Any:
        more: dict[str, Any] = {"retrain": [Retrain(name, examples=10)]}
        if react:
            more = {"drift": [watch_error(ADWIN(), react=retrain(name))]}
        return small(models={name: small().models["logreg"]}, champion=name, **more)

    assert declared("m" * 89).champion == "m" * 89
    with pytest.raises(DeclarationError, match="a model whose name has 89 characters at most"):
        declared("m" * 90)


def test_examples_are_read_to_the_end_of_what_was_written() -> None:
    """A commit is answered before its markers are written, so the last stable offset may lie behind it."""

    class Behind(Log):
        def stable(self, topic: str, partition: int) -> int:
            return super().stable(topic, partition) - 1

    lane = Lane(small(), Behind(), Pickled())
    lane.publish(events(0, 10), labels(0, 10))
    lane.work(50)
    history = Logged(lane.log.reader, topic("examples"), 0, lane.task.chain.examples_wire.decode)
    assert [example["n"] for example in history.examples(0)] == list(range(1, 11))


def test_a_request_that_may_be_open_is_ended_once_the_broker_is_back() -> None:
    """It is tried every five seconds: until then the registry may be read no further."""
    lane, now, tried = waiting(), [0.0], []

    def away(*_: Any, **__: Any) -> Any:
        tried.append(now[0])
        raise Aborted("No Kafka broker answers any more")

    cluster = SimpleNamespace(reader=lane.log.reader, producer=away)
    folding = Folding(lane.pipeline, cluster, topic, "small", lambda: now[0], lambda: None)
    folding._unsure.add(0)
    for now[0] in (0.0, 4.9, 5.0, 5.1, 10.0):
        for work in folding.due(lane.task):
            work()
    assert tried == [0.0, 5.0, 10.0]
    cluster.producer, now[0] = lane.log.producer, 15.0
    for work in folding.due(lane.task):
        work()
    now[0] = 20.0
    assert list(folding.due(lane.task)) == []


def test_a_schedule_that_is_declared_late_counts_from_then() -> None:
    """The first example after it was accepted begins its time."""
    plain = Lane(small(), Log(), Pickled())
    plain.publish(events(0, 40), labels(0, 40))
    plain.work(50)
    Checkpoint(plain.task, Version.of(plain.pipeline), 0, topic("state"), plain.log).write(None)
    declared = small(retrain=[Retrain("logreg", every="1h")])
    history = partial(logged, plain.log.reader, topic, 0)
    task = Task(declared, group_of(), 0, topics=topic, codec=Pickled(), history=history)
    given: dict[str, Any] = {"accept_change": True, "new_reader": plain.log.reader}
    for _ in recover(task, plain.log, Version.of(declared), topic, {}, **given):
        pass
    for rank, records in enumerate(((), labels(40, 120), events(40, 120))):
        for offset, (key, value) in enumerate(records):
            task.feed(rank, 40 + offset, key, value, NOW_MS)
        task.merge.end(rank)
    assert task.run(1_000) is not None
    assert task.chain.decisions is not None
    assert task.chain.decisions.registry["schedules"]["logreg"][0] == 3


def crowded(lane: Lane) -> None:
    """Records of others among the examples: of another declaration, with numbers that are taken, far off or to come."""
    place = topic("examples"), 0
    ours, foreign = lane.log.records[place], b"\xc3\x01" + b"\0" * 8
    mixed = list(ours[:20])
    mixed += [ours[0]._replace(value=foreign + long_bytes(n) + b"\0") for n in (1, 17, 30, 12, 2**40, -3, 40)]
    mixed += [ours[0]._replace(value=value) for value in (None, b"", b"junk", ours[4].value, ours[24].value)]
    mixed += [*ours[20:], ours[0]._replace(value=foreign + long_bytes(7))]
    lane.log.records[place] = [record._replace(offset=at) for at, record in enumerate(mixed)]


def test_records_of_others_stop_no_fold() -> None:
    """They are passed over, wherever a draft goes on; an example that is really gone is still missed."""
    lane = waiting()
    decode, entry = lane.task.chain.examples_wire.decode, {"base": "logreg", "from_n": 0, "from_ms": None}

    def made(last_n: int = COUNT, parts: tuple[int, ...] = ()) -> tuple[str, int]:
        history = Logged(lane.log.reader, topic("examples"), 0, decode)
        draft = Draft(lane.pipeline.fresh_models()["logreg"], 0, 0)
        for n in parts:
            draft = fold(lane.pipeline, draft, history.examples(draft.n, draft.place), entry, n)
        history.keep("fresh", draft)
        model, skipped = folded(lane.pipeline, history, "fresh", entry, last_n)
        return state_hash(model), skipped

    before = made()
    crowded(lane)
    assert before == made() == made(parts=tuple(range(1, COUNT, 7))) == made(parts=(20, 21))
    examples = examples_of(lane.pipeline, 0, lane.log, topic)
    assert [n for n, *_ in examples] == list(range(1, COUNT + 1))
    with pytest.raises(Lost, match="ends at example 300"):
        made(COUNT + 1)
    kept = lane.log.records[topic("examples"), 0]
    lane.log.records[topic("examples"), 0] = [r for r in kept if number_of(r.value) != 25]
    with pytest.raises(Lost, match="Example 25 of the training log is gone; the next one left is 26"):
        made()
    with pytest.raises(Lost, match="Example 25 of the training log is gone"):
        list(examples_of(lane.pipeline, 0, lane.log, topic))


def test_an_example_that_comes_out_of_turn_is_not_learned_twice() -> None:
    """Whoever goes on from a draft learns what whoever begins anew does: a copy before its turn is nobody's example."""
    lane = waiting()
    ours = lane.log.records[topic("examples"), 0]
    other = b"\xc3\x01" + b"\0" * 8 + long_bytes(52)
    mixed = [*ours[:50], *[ours[0]._replace(value=None)] * 60, ours[0]._replace(value=other), *ours[50:]]
    lane.log.records[topic("examples"), 0] = [record._replace(offset=at) for at, record in enumerate(mixed)]
    history = Logged(lane.log.reader, topic("examples"), 0, lane.task.chain.examples_wire.decode)
    entry = {"base": "logreg", "from_n": 0, "from_ms": None}
    found = []
    for parts in ((), (51,), (50, 51), (49, 52)):
        draft = Draft(lane.pipeline.fresh_models()["logreg"], 0, 0)
        for n in (*parts, COUNT):
            draft = fold(lane.pipeline, draft, history.examples(draft.n, draft.place), entry, n)
        found.append((state_hash(draft.model), *draft[1:]))
    assert found[1:] == found[:1] * 3
    assert found[0][1:3] == (COUNT, 0)
