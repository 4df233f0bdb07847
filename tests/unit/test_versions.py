"""Versions: all of a snapshot or nothing of it, what stays, and what the log makes of each of them again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from river import dummy, ensemble, linear_model, preprocessing, tree

from headrace.streams.checkpoint import Checkpoint
from headrace.streams.commands.versions import _tell
from headrace.streams.errors import Lost
from headrace.streams.identity.hashing import state_hash
from headrace.streams.models import versions
from headrace.streams.models.keys import SigningKey
from headrace.streams.models.snapshots import Sealed, SnapshotError, chunk
from headrace.streams.models.versions import Published, Publisher, published
from headrace.streams.pipeline import Versions
from headrace.streams.replay.rebuild import Wanted, rebuild
from headrace.streams.task import Version
from tests.inmemory import Lane, Log, topic
from tests.small import event, known, small

KEY = SigningKey.generate()
CODEC = Sealed(KEY, {KEY.key_id: KEY.verify_key})
MODELS = {
    "logreg": preprocessing.StandardScaler() | linear_model.LogisticRegression(),
    "tree": tree.HoeffdingAdaptiveTreeClassifier(grace_period=10, seed=1),
}


class Publishing(Lane):
    """A lane that checkpoints and publishes versions as a worker does."""

    def __init__(self, codec: Sealed = CODEC, **changed: Any) -> None:
        super().__init__(small(**changed), codec=codec)
        self.publisher = Publisher(self.pipeline, self.log, topic, codec)

    def checkpoint(self, _: Any = None) -> None:
        """A checkpoint, and what follows it."""
        due = self.publisher.due(self.task)
        models = self.publisher.frozen(self.task) if due else []
        done = Checkpoint(self.task, Version.of(self.pipeline), 0, topic("state"), self.log, models=due)
        done.write(None)
        if due:
            self.publisher.begin(0)
            self.publisher.publish("t", 0, [m._replace(sealed=done.sealed[m.name]) for m in models])

    def versions(self, log: Log | None = None) -> dict[str, Published]:
        """What is published."""
        return published(topic("models"), 0, log or self.log)


def lane(count: int = 120, batch: int = 20, every: int = 1, keep: int = 1_000, **changed: Any) -> Publishing:
    """Events with labels an hour later, versions after each batch."""
    one = Publishing(**{"models": MODELS, "champion": "logreg", "versions": Versions(every, keep)} | changed)
    chance = random.Random(2)
    draws = [chance.random() for _ in range(count)]
    one.publish(
        [event(f"e{i}", i / 8, shop=f"s{i % 3}", spent=draws[i]) for i in range(count)],
        [known(f"e{i}", i / 8 + 1, draws[i] > 0.5, shop=f"s{i % 3}") for i in range(count)],
    )
    one.work(batch, after=one.checkpoint)
    return one


def opened(one: Publishing, log: Log | None = None) -> list[Wanted]:
    """The published versions, as rebuild takes them."""
    return [Wanted.of(version, CODEC) for version in one.versions(log).values()]


def rebuilt(one: Publishing, wanted: list[Wanted], log: Log | None = None, **options: Any) -> Any:
    """Rebuild these."""
    return rebuild(one.pipeline, wanted, (log or one.log).reader, topic, codec=CODEC, **options)


def test_a_version_says_what_it_is() -> None:
    """Its header names the version, the log's place, and the hashes; its state is that of the model in it."""
    one = lane()
    last = list(one.versions().values())[-1]
    model, header = last.open(CODEC)
    n = one.task.chain.context.progress[0]
    assert (last.version, header.version, header.n, header.since) == (f"tree/0@{n}", f"tree/0@{n}", n, 0)
    assert header.at["seq"] == one.task.seq
    assert header.at["positions"] == {"t.registry": 2, "t.labels": 120, "t.events": 120}
    assert header.spec == Version.of(one.pipeline).hash
    assert len(header.environment) == len(header.state) == 32
    assert isinstance(model, tree.HoeffdingAdaptiveTreeClassifier)


def test_every_version_is_rebuilt_from_the_examples() -> None:
    """Of two models, each version's state and its answers to what followed are those of the fold."""
    one = lane()
    found = rebuilt(one, opened(one))
    assert len(found) > 15
    assert {(made.way, made.same, made.different) for made in found} == {("examples", True, 0)}
    assert sum(made.asked for made in found) > 500
    assert len({made.state for made in found}) == len(found)


def test_every_version_is_rebuilt_by_replay() -> None:
    """The other way gives the same, and the models themselves to whoever publishes them anew."""
    one, kept = lane(), {}
    found = rebuilt(one, opened(one), replay=True, keep=lambda one, model: kept.update({one.version: model}))
    assert {version: state_hash(model) for version, model in kept.items()} == {e.version: e.state for e in found}
    assert {(made.way, made.same, made.examples_differ) for made in found} == {("replay", True, 0)}


def test_a_model_that_changes_when_it_is_asked_is_rebuilt_by_replay() -> None:
    """Random patches draw from their generator for a prediction, too: the examples alone do not make it."""
    patches = ensemble.SRPClassifier(tree.HoeffdingTreeClassifier(grace_period=10), n_models=2, seed=1)
    one = lane(40, models={"patches": patches}, champion="patches")
    (found,) = rebuilt(one, opened(one)[-1:])
    assert (found.way, found.same) == ("replay", True)
    assert "asked" in found.note

    last, kept = list(one.versions().values())[-1], []
    last.pieces[0] = last.pieces[0][:-1] + b"?"
    (again,) = rebuilt(one, [Wanted.of(last, CODEC)], keep=lambda _, model: kept.append(model))
    assert (again.way, again.state, state_hash(kept[-1])) == ("replay", found.state, found.state)
    assert "asked" in again.note


def test_a_retrained_model_is_rebuilt_from_where_it_began() -> None:
    """From the examples after the one that it was told to leave out, and from the model that it is a copy of."""
    one = Publishing(models=MODELS, champion="logreg", versions=Versions(1, 1_000))
    asked = {"record": "command", "id": "1", "kind": "retrain", "shard": 0, "by": "me", "model": "tree"}
    for start in (0, 40):
        one.publish(
            [event(f"e{i}", i / 8, spent=i % 7) for i in range(start, start + 40)],
            [known(f"e{i}", i / 8 + 1, i % 7 > 3) for i in range(start, start + 40)],
        )
        one.work(10, after=one.checkpoint)
        one.log.begin()
        one.log.send(topic("registry"), 0, b"tree", msgspec.json.encode(asked | {"name": "fresh", "from_n": 10}))
        one.log.commit()
    mine = [wanted for wanted in opened(one) if wanted.name == "fresh"]
    assert len(mine) > 3
    assert {(wanted.since, wanted.base) for wanted in mine} == {(10, "tree")}
    assert {(made.way, made.same) for made in rebuilt(one, mine)} == {("examples", True)}
    assert {(made.way, made.same) for made in rebuilt(one, mine, replay=True)} == {("replay", True)}


def test_a_changed_example_is_noticed_by_rebuild() -> None:
    """Another label: the fold differs, and the replay says that it is the example that was changed."""
    one = lane()
    records = one.log.records[topic("examples"), 0]
    decode, encode = one.task.chain.examples_wire.decode, one.task.chain.examples_wire
    example = decode(records[30].value)
    example["label"] = not example["label"]
    packed = encode.pack(example.pop("features"))
    records[30] = records[30]._replace(value=encode.encode(*example.values(), packed))
    (made,) = rebuilt(one, opened(one)[-1:])
    assert (made.way, made.same, made.examples_differ, made.state) == ("replay", False, 1, made.published)
    del records[40]
    with pytest.raises(Lost, match="Example 41 of the training log is gone; the next one left is 42"):
        rebuilt(one, opened(one)[-1:])


@pytest.mark.parametrize("wanted", [Wanted("logreg", 0, 37), Wanted("copy", 0, 0)], ids=["between batches", "unknown"])
def test_a_version_that_no_replay_comes_past_is_said(wanted: Wanted) -> None:
    """A number between two batches, and the name of a model that is not there by then: there is nothing to compare."""
    (found,) = rebuilt(lane(40, batch=10), [wanted], replay=True)
    assert (found.same, found.state, found.note) == (None, "", "the replay did not come past it")


def test_a_published_version_that_cannot_be_replayed_stays_published(capsys: pytest.CaptureFixture[str]) -> None:
    """The inputs' first records are gone: its state is not compared, which is no success and is said as it is."""
    one = lane(40, batch=10)
    last = opened(one)[-1]
    one.log.lows[topic("events"), 0] = 5
    (found,) = rebuilt(one, [last], replay=True)
    assert (found.same, found.state, found.published) == (None, "", last.published)
    _tell(found)
    told = capsys.readouterr().out
    assert f"Published state {last.published}: not compared." in told
    assert told.endswith("from the next one on it can begin.\n")


def text(label: Any) -> str:
    """A class by its name."""
    return "yes" if label.y else "no"


def number(label: Any) -> int:
    """A class by its number."""
    return int(label.y)


def test_labels_of_a_declaration_before_are_named() -> None:
    """Text where whole numbers are declared now: what learned it cannot be rebuilt, and the record is told."""
    declared = {"task": "multiclass", "models": {"shares": dummy.PriorClassifier()}, "champion": "shares"}
    one = lane(30, labels={"y": text}, **declared)
    now = small(labels={"y": number}, **declared)
    with pytest.raises(Lost, match=r"t\.examples/0 example 1: .* its label is of another declaration"):
        rebuild(now, opened(one), one.log.reader, topic, codec=CODEC)


def test_what_stays_is_the_newest_and_the_first_after_each_promotion() -> None:
    """The others are deleted in the transaction that publishes the next one."""
    one = Publishing(models=MODELS, champion="logreg", versions=Versions(1, 2))
    _crown(one.log, "tree", 10)
    for i in range(8):
        one.publish([event(f"{i}-{j}", i + j / 10) for j in range(5)], [known(f"{i}-{j}", i + 0.9) for j in range(5)])
        one.work(after=one.checkpoint)
    n = {name: [v.n for v in one.versions().values() if v.name == name] for name in MODELS}
    assert n == {"logreg": [35, 40], "tree": [10, 35, 40]}


def test_a_model_is_published_when_it_has_learned_enough_and_when_it_was_promoted() -> None:
    """Not at every checkpoint."""
    one = lane(every=50)
    assert [v.n for v in one.versions().values() if v.name == "logreg"][1:] == [
        n for n in [v.n for v in one.versions().values() if v.name == "logreg"][1:] if n >= 50
    ]
    before = len(one.versions())
    _crown(one.log, "tree", one.task.chain.context.progress[0])
    one.task.chain.counts["facts.promoted"] = 1
    one.publish([event("more", 30.0)], [known("more", 31.0)])
    one.work(after=one.checkpoint)
    assert len(one.versions()) == before + 1
    assert list(one.versions().values())[-1].name == "tree"


def test_large_models_are_cut_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot larger than a chunk takes several records; without one of them it is incomplete, and nothing else."""
    monkeypatch.setattr(versions, "chunk", lambda data: chunk(data, 500))
    one = lane(40)
    version = list(one.versions().values())[-1]
    assert len(version.pieces) > 3
    assert max(map(len, version.pieces.values())) <= 500
    version.open(CODEC)
    del version.pieces[1]
    with pytest.raises(SnapshotError, match="incomplete"):
        version.open(CODEC)


def test_a_version_published_twice_is_its_last_chunks() -> None:
    """What a longer one before left behind is not read as part of it."""
    log = Log()
    for pieces in (["a", "b", "c"], ["d", "e"]):
        log.begin()
        for i, piece in enumerate(pieces):
            log.send(topic("models"), 0, f"m/0@7#{i}".encode(), piece.encode())
        log.commit()
    (version,) = published(topic("models"), 0, log).values()
    assert version.pieces == {0: b"d", 1: b"e"}


@pytest.mark.parametrize("where", ["record", "snapshot", "signature"])
def test_one_flipped_bit_is_noticed_100_times_of_100(where: str) -> None:
    """At random places of the record, of what was cut into it, and of the signature: refused, and rebuilt."""
    one, chance = lane(30, every=1_000), random.Random(7)
    version = one.versions()["logreg/0@6"]
    whole = version.pieces[0] if where == "record" else version.data()
    for _ in range(100):
        changed = bytearray(whole)
        changed[chance.randrange(28, 92) if where == "signature" else chance.randrange(len(whole))] ^= (
            1 << chance.randrange(8)
        )
        version.pieces[0] = bytes(changed) if where == "record" else chunk(bytes(changed))[0]
        found = Wanted.of(version, CODEC)
        assert found.refused is not None
        assert where != "signature" or found.refused.startswith("forged")
    (made,) = rebuilt(one, [found])
    (good,) = rebuilt(one, opened(one)[:1])
    assert (made.same, made.state, good.same) == (False, good.state, True)


def test_a_snapshot_of_somebody_else_or_of_another_version_is_refused() -> None:
    """Signed with a foreign key; genuine, but under another version's key."""
    stranger = SigningKey.generate()
    foreign = lane(30, every=1_000, codec=Sealed(stranger, {stranger.key_id: stranger.verify_key}))
    assert {str(w.refused).partition(":")[0] for w in opened(foreign)} == {"untrusted"}
    one = lane(30)
    first, *_, last = one.versions().values()
    last.pieces = first.pieces
    assert "wrong_name" in str(Wanted.of(last, CODEC).refused)


def test_a_worker_tells_once_of_a_snapshot_that_it_finds_refused() -> None:
    """An alert on the alerts topic, which is no output that a replay would make."""
    one = lane(30)
    records = one.log.records[topic("models"), 0]
    records[0] = records[0]._replace(value=records[0].value[:-1] + b"?")
    for i in range(2):
        one.publish([event(f"more{i}", 30.0 + i)], [known(f"more{i}", 31.0 + i)])
        one.work(after=one.checkpoint)
    (alert,) = one.log.records[topic("alerts"), 0]
    told = msgspec.json.decode(alert.value)
    assert (told["kind"], told["severity"], told["first_offset"]) == ("snapshot_refused", "critical", 0)
    assert alert.headers == [("stage", b"operations")]


def test_what_is_forged_neither_stops_versions_nor_takes_their_place() -> None:
    """A version far ahead that nobody signed, a foreign shard, a fact in endless brackets, an n without end."""
    one = lane(30, every=1, keep=1)
    (newest,) = {version.n for version in one.versions().values()}
    one.log.begin()
    for key in (b"logreg/0@999999999#0", b"tree/7@999999999#0"):
        one.log.send(topic("models"), 0, key, b"forged")
    for value in (b"[" * 100_000, b'{"kind":"promoted","model":"tree","n":%s}' % (b"9" * 5_000), b"{}", None):
        one.log.send(topic("registry"), 0, b"tree", value)
    one.log.commit()
    one.publish([event("more", 30.0)], [known("more", 31.0)])
    one.work(after=one.checkpoint)
    found = one.versions()
    forged = {"logreg/0@999999999", "tree/7@999999999"}
    assert {version: one.n for version, one in found.items() if version not in forged} == {
        f"{name}/0@{newest + 1}": newest + 1 for name in MODELS
    }
    assert forged <= found.keys()
    told = [msgspec.json.decode(alert.value)["signal"] for alert in one.log.records[topic("alerts"), 0]]
    assert sorted(told) == sorted(f"model:{version}" for version in forged)


def test_a_refused_version_is_published_anew() -> None:
    """From the rebuilt model, under the same name; it opens, and is what the log makes."""
    one = lane(30, every=1_000)
    one.log = one.log.flip("models", 0, 200, 0)
    wanted = opened(one)[0]
    kept: list[Any] = []
    rebuilt(one, [wanted], keep=lambda _, model: kept.append(model))
    publisher = Publisher(one.pipeline, one.log, topic, CODEC)
    publisher.restore(wanted.name, 0, wanted.n, wanted.since, wanted.name, kept[-1])
    assert {made.same for made in rebuilt(one, opened(one))} == {True}


def test_a_checkpoint_that_was_given_up_is_followed_by_another() -> None:
    """Versions are due at the next one just so: nothing was handed over."""
    one = lane(30, every=1_000)
    one.publisher = Publisher(one.pipeline, one.log, topic, CODEC)
    one.publisher.frozen(one.task)
    assert one.publisher.due(one.task)
    one.checkpoint()
    assert not one.publisher.due(one.task)
    assert one.versions()


def test_nothing_is_published_when_the_publisher_was_fenced() -> None:
    """A zombie's transaction does not happen: no version, no half of one, and the worker goes on."""
    one = lane(30, every=1_000)
    models = one.publisher.frozen(one.task)
    one.publisher.begin(0)
    before = list(one.log.records[topic("models"), 0])
    one.log.commit = _fenced  # type: ignore[method-assign]
    later = [m._replace(n=m.n + 2_000, sealed=CODEC.seal(f"models.{m.name}", MODELS[m.name])) for m in models]
    one.publisher.publish("t", 0, later)
    assert one.log.records[topic("models"), 0] == before


def test_a_producer_that_somebody_takes_as_the_worker_ends_is_theirs() -> None:
    """A publication under way in its thread has it: the worker ended in the middle of its own clean-up."""

    class Taken(dict[int, Any]):
        def __iter__(self) -> Iterator[int]:
            return iter([0])

    publisher = lane(30).publisher
    publisher._producers = Taken()
    publisher.close()


def _fenced() -> None:
    raise Lost("fenced")


def _crown(log: Log, name: str, n: int) -> None:
    log.begin()
    log.send(topic("registry"), 0, name.encode(), b'{"record":"fact","kind":"promoted","model":"%s","n":%d}' % (
        name.encode(), n
    ))  # fmt: skip
    log.commit()
