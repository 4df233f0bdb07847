"""Recovery over a log in memory: first starts, new epochs, refused checkpoints."""

from __future__ import annotations

import functools
from types import ModuleType

import msgspec
import pytest
from river import drift, linear_model, naive_bayes

from headrace import Gate, Proxies, count, label, mean, watch_error, watch_label
from headrace.schemas.records import Command
from headrace.streams import snapshots, task
from headrace.streams.audit import audit
from headrace.streams.canonical import state_hash
from headrace.streams.checkpoint import Checkpoint, LastSavepoint
from headrace.streams.errors import Diverged, Lost, SpecChanged, Stalled, UsageError
from headrace.streams.journal import write
from headrace.streams.keys import SigningKey
from headrace.streams.log import Record
from headrace.streams.packing import pack
from headrace.streams.recovery import Recovered, recover
from headrace.streams.retraining import logged
from headrace.streams.savepoints import copy, savepoints
from headrace.streams.snapshots import Sealed
from headrace.streams.task import Task, Version
from headrace.streams.topology import group_of
from tests.small import NOW_MS, event, known, small


class Log:
    """Topics of one partition, each beginning at an offset; reader and producer in one."""

    def __init__(self, lows=()):
        self.lows = dict(lows)
        self.records = {}

    def watermarks(self, topic, partition):
        low = self.lows.get(topic, 0)
        return low, low + len(self.records.get(topic, ()))

    def read(self, topic, partition, start=None, end=None):
        low, high = self.watermarks(topic, partition)
        start, end = low if start is None else start, high if end is None else end
        if start < low:
            raise Lost(f"{topic}: offset {start} is gone")
        yield from self.records.get(topic, [])[start - low : end - low]

    def close(self):
        pass

    def begin(self):
        pass

    def commit(self):
        pass

    def send(self, topic, partition, key, value, headers=None):
        found = self.records.setdefault(topic, [])
        found.append(Record(topic, partition, self.watermarks(topic, 0)[1], key, value, NOW_MS, headers))


class Life:
    """One process over the log: recovers, opens the epoch that is due, and can go on from there."""

    def __init__(self, log, pipeline, *, stages=None, key=None, committed=(), accept_change=False):
        self.log, self.version = log, Version.of(pipeline)
        codec = None if key is None else Sealed(key, {key.key_id: key.verify_key}, any_libraries=True)
        self.task = Task(pipeline, group_of(stages), 0, topics=_topic, codec=codec)
        self.found = Recovered()
        given = {"reader": log, "version": self.version, "topics": _topic, "new_reader": lambda: log}
        for found in recover(self.task, **given, committed=dict(committed), accept_change=accept_change):
            self.found = found
        if self.found.epoch_due:
            self._journal(self.task.open_epoch(self.version, first=self.task.seq == 0))

    @property
    def committed(self):
        return {source.topic: at for source, at in zip(self.task.chain.sources, self.task.positions, strict=True)}

    @property
    def state(self):
        return state_hash(self.task.chain.stores.contents())

    def work(self, batch=50):
        for rank, source in enumerate(self.task.chain.sources):
            for r in self.log.read(source.topic, 0, self.task.positions[rank]):
                self.task.feed(rank, r.offset, r.key, r.value, r.timestamp_ms)
            self.task.merge.end(rank)
        while (done := self.task.run(batch)) is not None:
            for role, key, value, headers in done.outputs:
                self.log.send(role, 0, key, value, headers)
            self._journal(done.entry)

    def checkpoint(self, outputs=None):
        """As a worker's first one: it names where the journal was read from."""
        end, start = self.log.watermarks("journal", 0)[1], self.found.journal_offset
        Checkpoint(self.task, self.version, start, "state", self.log, outputs, journal_end=end).write(None)

    def savepoint(self, seconds=0.0):
        self.checkpoint({role: self.log.watermarks(role, 0)[1] for role in self.task.group.outputs})
        copy(self.task.group.name, 0, _topic, self.log, self.log, iter((0.0, seconds)).__next__)

    def _journal(self, entry):
        self.log.send("journal", 0, self.task.group.name.encode(), write(entry))


def _topic(role):
    return role


def _publish(log, events=(), labels=()):
    for topic, records in (("events", events), ("labels", labels)):
        for key, value in records:
            log.send(topic, 0, key, value)


def _day(log, day):
    """Forty events in shops of their own, and the labels of the day before."""
    _publish(
        log,
        [event(f"{day}-{i}", 24 * day + i / 40, shop=f"{day}{i % 7}") for i in range(40)],
        [known(f"{day - 1}-{i}", 24 * day + i / 40) for i in range(40)] if day else [],
    )


def test_died_between_the_first_epoch_and_the_first_batch():
    """A worker that died right after opening its first epoch goes on where it began, though old inputs are gone."""
    log = Log({"events": 100, "labels": 7})
    first = Life(log, small())
    assert Life(log, small(), committed=first.committed).task.positions == [0, 7, 100]


def test_offsets_that_expired_before_the_first_batch():
    """Without committed offsets, and with nothing read, it begins at the first record there is."""
    log = Log({"events": 100, "labels": 7})
    Life(log, small())
    assert Life(log, small()).task.positions == [0, 7, 100]


def test_state_after_a_refused_checkpoint():
    """What a refused checkpoint left in the state topic is replaced by the next one, and never comes back."""
    log, old, new = Log(), SigningKey.generate(), SigningKey.generate()
    life = Life(log, small(), key=old)
    for day in range(4):
        _day(log, day)
        life.work()
        life.checkpoint()
    life = Life(log, small(), key=new)
    assert life.found.checkpoint_seq is None
    assert str(life.found.refused).startswith("untrusted")
    for day in (4, 5):
        life.checkpoint()
        _day(log, day)
        life.work()
    life.checkpoint()
    assert Life(log, small(), key=new).state == life.state


def _upgrade(monkeypatch):
    """Another River from here on, as far as anybody can tell."""
    here = {**task.environment(), "river": "99.9"}
    monkeypatch.setattr(task, "environment", lambda: here)
    monkeypatch.setattr(snapshots, "_LIBRARIES", {**snapshots.libraries(), "river": "99.9"})


def _lived(key, drifts=()):
    """A log with three days and a checkpoint after the second, and what the state was in the end."""
    log = Log()
    _day(log, 0)
    _day(log, 1)
    life = Life(log, small(drift=list(drifts)), key=key)
    life.work()
    life.checkpoint()
    _day(log, 2)
    life.work()
    return log, life.state


def test_a_state_of_other_libraries_is_kept_when_that_is_accepted(monkeypatch):
    """Nothing before the checkpoint is needed: those inputs are not there any more."""
    key = SigningKey.generate()
    watched = [watch_error(drift.ADWIN())]
    log, state = _lived(key, watched)
    _upgrade(monkeypatch)
    log.lows["events"], log.records["events"] = 80, log.records["events"][80:]
    with pytest.raises(SpecChanged, match=r"environment\.river changed"):
        Life(log, small(drift=watched), key=key)
    life = Life(log, small(drift=watched), key=key, accept_change=True)
    assert (life.found.refused, life.found.epoch_due, life.state) == (None, True, state)
    _day(log, 3)
    life.work()
    again = Life(log, small(drift=watched), key=key)  # died before its first checkpoint, and nobody says it once more
    assert (again.found.refused, again.found.epoch_due, again.state) == (None, False, life.state)
    life.checkpoint()
    assert Life(log, small(drift=watched), key=key).found.refused is None


def test_a_model_that_other_libraries_build_otherwise_begins_anew(monkeypatch):
    """One with an attribute that the state's has not would fail at the first event: it is another model."""
    key = SigningKey.generate()
    log, _ = _lived(key)
    _upgrade(monkeypatch)
    made = linear_model.LogisticRegression.__init__

    @functools.wraps(made)
    def newer(self, *args, **options):
        made(self, *args, **options)
        self.added = None

    monkeypatch.setattr(linear_model.LogisticRegression, "__init__", newer)
    life = Life(log, small(), key=key, accept_change=True)
    assert life.found.refused is None
    assert life.task.chain.learned() == [("logreg", 80, 40)]


def test_a_model_that_was_changed_begins_where_it_was():
    """What came before, another learned under its name: its versions say from which example on they are folded."""
    log, key = Log(), SigningKey.generate()
    life = Life(log, small(), key=key)
    for day in range(3):
        _day(log, day)
        life.work()
    life.checkpoint()
    assert life.task.chain.learned() == [("logreg", 80, 0)]
    changed = small(models={"logreg": linear_model.Perceptron()})
    life = Life(log, changed, key=key, accept_change=True)
    _day(log, 3)
    life.work()
    life.checkpoint()
    assert life.task.chain.learned() == [("logreg", 120, 80)]
    assert Life(log, changed, key=key).task.chain.learned() == [("logreg", 120, 80)]


def _changed(factor):
    """A pipeline whose feature depends on something in another module, which no specification sees."""
    elsewhere.factor = factor
    return small(features={"spent": _spent})


elsewhere = ModuleType("elsewhere")


def _spent(e) -> float:
    return elsewhere.factor * e.spent


def test_a_state_of_another_task_is_refused_whatever_is_accepted():
    """Scores of two classes are none of three, or of a number."""
    log = Log()
    _day(log, 0)
    life = Life(log, small())
    life.work()
    for task_, y in (("multiclass", "y"), ("regression", lambda label: float(label.y))):
        models = {"logreg": linear_model.LinearRegression() if task_ == "regression" else naive_bayes.GaussianNB()}
        with pytest.raises(SpecChanged, match=f"of a binary pipeline, and means nothing to a {task_} one"):
            Life(log, small(task=task_, models=models, labels={"y": y}), accept_change=True)


def test_unseen_change_stops():
    """Code that changed where no hash sees it makes other bytes, and the recovery says so."""
    log = Log()
    _day(log, 0)
    Life(log, _changed(1.0)).work()
    with pytest.raises(Diverged):
        Life(log, _changed(2.0))


def test_unseen_change_can_be_accepted():
    """As the error says, --accept-change opens a new epoch, also where the specification looks the same."""
    log = Log()
    _day(log, 0)
    Life(log, _changed(1.0)).work()
    life = Life(log, _changed(2.0), accept_change=True)
    assert (life.task.epoch, life.found.changed) == (1, ["what a replay publishes"])


def test_died_right_after_an_accepted_change():
    """A worker that died between opening a new epoch and its first checkpoint comes back without being told again."""
    log = Log()
    _day(log, 0)
    Life(log, small()).work()
    changed = small(features={"visits": small().features["visits"]})
    accepted = Life(log, changed, accept_change=True)
    assert any(path.startswith("features.") for path in accepted.found.changed)
    _day(log, 1)
    accepted.work()
    again = Life(log, changed)
    assert (again.state, again.found.changed) == (accepted.state, [])


KEY = SigningKey.generate()
CODEC = Sealed(KEY, {KEY.key_id: KEY.verify_key})


def _edited(factor):
    """The pipeline with a feature function as its author saved it: edited, it is the same name with another body."""
    space = {}
    exec(f"def tip(e) -> float:\n    return e.spent * {factor}\n", space)
    return small(features={"tip": space["tip"]})


def _crashed_before_an_edit():
    """A log that a process left behind after a checkpoint and a batch, and its features so far."""
    log = Log()
    life = Life(log, _edited(0.1), key=KEY)
    for day in (0, 1):
        _day(log, day)
        life.work()
        life.checkpoint()
    _day(log, 2)
    life.work()
    return log, list(log.records["features"])


def test_an_edited_feature_stops_and_is_named():
    """Code that changed between crash and restart is not run over a journal that other code wrote."""
    log, features = _crashed_before_an_edit()
    with pytest.raises(SpecChanged, match=r"another specification: features\.tip\S* changed.*--accept-change"):
        Life(log, _edited(0.2), key=KEY)
    assert log.records["features"] == features
    assert Life(log, _edited(0.1), key=KEY).task.epoch == 0


def test_an_edited_feature_that_is_accepted():
    """A new epoch: what was published stays, what comes is made by the new code, and the next start needs no flag."""
    log, features = _crashed_before_an_edit()
    life = Life(log, _edited(0.2), key=KEY, accept_change=True)
    _day(log, 3)
    life.work()
    assert life.task.epoch == 1
    assert log.records["features"][: len(features)] == features
    decode = life.task.chain.features_wire.decode
    tips = [decode(record.value)["features"]["tip"] for record in log.records["features"]]
    assert tips == [0.1] * len(features) + [0.2] * 40
    assert Life(log, _edited(0.2), key=KEY).state == life.state


def test_an_edited_feature_is_audited_per_epoch():
    """The old code audits the first epoch and says where it ended, the new code the second from its savepoint on."""
    log, _ = _crashed_before_an_edit()
    life = Life(log, _edited(0.2), key=KEY, accept_change=True)
    _day(log, 3)
    life.work()
    published = sum(len(log.records[role]) for role in ("features", "predictions", "examples"))
    with pytest.raises(SpecChanged, match="Epoch 0 was written by another specification"):
        audit(_edited(0.2), lambda: log, _topic, codec=CODEC)
    first = audit(_edited(0.1), lambda: log, _topic, codec=CODEC)
    life.savepoint()
    _day(log, 4)
    life.work()
    second = audit(_edited(0.2), lambda: log, _topic, codec=CODEC)
    assert (first.different, second.different) == (0, 0)
    assert first.ended == {"lane/0": "epoch 1 is of another specification"}
    assert first.by_topic["features"]["compared"] == 3 * 40
    assert second.by_topic["features"]["compared"] == 40
    assert 0 < first.compared < published


def _checkpointed(outputs=None):
    """A log with twenty events, and who has them all in a checkpoint."""
    log = Log()
    _publish(log, [event(f"e{n}", n) for n in range(20)])
    life = Life(log, small(), key=KEY)
    life.work()
    life.checkpoint(outputs)
    return log, life


def test_a_state_that_is_all_there_is_left():
    """After a month without events retention has taken the journal and the inputs; the checkpoint has everything."""
    log, life = _checkpointed()
    for topic in ("journal", "events"):
        _forget_all(log, topic)
    again = Life(log, small(), key=KEY)
    assert (again.state, again.task.positions) == (life.state, life.task.positions)
    _publish(log, [event("late", 30)])
    again.work()
    assert again.task.chain.counts["predictions"] == 21
    again.checkpoint()
    assert Life(log, small(), key=KEY).state == again.state


def test_a_state_that_was_followed_by_what_is_gone():
    """Whatever was journalled after the checkpoint cannot be made again: going on would publish it a second time."""
    log, life = _checkpointed()
    _publish(log, [event(f"f{n}", 20 + n) for n in range(150)])
    life.work()
    _forget_all(log, "journal")
    with pytest.raises(Lost, match="journal"):
        Life(log, small(), key=KEY)


def _forget_all(log, topic):
    log.lows[topic] = log.watermarks(topic, 0)[1]
    log.records[topic] = []


def test_a_checkpoint_that_is_read_while_the_next_one_is_written():
    """What follows the last marker is half of another: it is left out."""
    log, life = _checkpointed(outputs={})
    state, count = life.state, len(log.records["state"])
    _publish(log, [event(f"f{n}", 20 + n) for n in range(20)])
    life.work()
    life.checkpoint()
    log.records["state"] = log.records["state"][: (count + len(log.records["state"])) // 2]
    copy(life.task.group.name, 0, _topic, log, log, lambda: 0.0)
    (savepoint,) = savepoints(life.task.group.name, 0, _topic, log)
    task = Task(small(), group_of(), 0, topics=_topic, codec=Sealed(KEY, {KEY.key_id: KEY.verify_key}))
    task.restore(savepoint.entries, savepoint.marker)
    assert state_hash(task.chain.stores.contents()) == state


def test_a_savepoint_that_took_too_long_is_not_committed():
    """Compaction may have taken away meanwhile what the copy had not read."""
    log = Log()
    _publish(log, [event("e", 0)])
    life = Life(log, small(), key=KEY)
    life.work()
    with pytest.raises(Stalled, match="it may mix two"):
        life.savepoint(seconds=61.0)
    life.savepoint(seconds=60.0)


def test_a_checkpoint_tells_when_the_last_savepoint_was_made():
    """So that a restart does not begin with another."""
    log, last = Log(), LastSavepoint(0, 1_700_000_000_000)
    _day(log, 0)
    life = Life(log, _changed(1.0), key=KEY)
    life.work()
    Checkpoint(life.task, life.version, 0, "state", log, savepoint=last).write(None)
    assert Life(log, _changed(1.0), key=KEY).found.savepoint == last


def test_new_epoch_is_compared():
    """Journal records since the last epoch are still compared, whatever came before it."""
    log = Log()
    _day(log, 0)
    Life(log, _changed(1.0)).work()
    accepted = Life(log, _changed(2.0), accept_change=True)
    _day(log, 1)
    accepted.work()
    with pytest.raises(Diverged):
        Life(log, _changed(3.0))


def test_same_stages_in_another_group():
    """Stages that have run in the lane are not run a second time as a part of it, over the same topics."""
    log = Log()
    Life(log, small())
    with pytest.raises(UsageError, match="validate, featurize ran as part of lane"):
        Life(log, small(), stages=["validate", "featurize"])


def test_other_stages_in_another_group():
    """Groups without a stage in common share a journal topic."""
    log = Log()
    Life(log, small(), stages=["validate", "featurize"])
    assert Life(log, small(), stages=["predict", "join", "train", "evaluate"]).task.seq == 1


@pytest.mark.parametrize("by", ["spent", ("shop", "spent")])
def test_zero_with_and_without_a_sign_are_one_key(by):
    """They are one key in memory, so they are one in the state topic: neither hides the other's value."""
    log, key = Log(), SigningKey.generate()
    pipeline = small(features={"n": count(by=by, over="3h")})
    life = Life(log, pipeline, key=key)
    for i, spent in enumerate([0.0, -0.0, 0.0]):
        _publish(log, [event(f"{i}", i / 10, spent=spent)])
        life.work()
        life.checkpoint()
    assert Life(log, pipeline, key=key).state == life.state


def _ways(n):
    """The last `n` of some models."""
    made = {
        "flat": linear_model.LogisticRegression(),
        "steep": linear_model.LogisticRegression(intercept_lr=0.5),
        "perceptron": linear_model.Perceptron(),
    }
    return dict(list(made.items())[-n:])


def _tip(e) -> float:
    return e.spent / 10


def _declared(n, *segments, **more):
    """As many models, these segments, and watches of the error and of the label."""
    options = {"every": 16, "false_alarms_every": 1_600}
    watches = {"drift": [watch_error(**options), watch_label(**options)], "evaluate_every": 60}
    gate = Gate(segments=segments, minimum=40, every=10)
    return small(**({"models": _ways(n), "champion": "perceptron", "gate": gate} | watches | more))


def _tipped(n, *segments, **more):
    """The same with a feature more, which events that wait for their label do not have."""
    return _declared(n, *segments, **({"features": {"spent": small().features["spent"], "tip": _tip}} | more))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (_declared(2), _declared(3)),
        (_declared(3, "shop"), _declared(2, "shop")),
        (_declared(2, "shop"), _declared(2, "note")),
        (_declared(2), _declared(2, "shop", "spent")),
        (_declared(2, "shop"), _declared(2)),
        (_declared(2), _declared(2, drift=[watch_error(drift.ADWIN()), watch_label(drift.ADWIN())])),
        (_declared(2), _declared(2, evaluate_every=7)),
        (_declared(2, "shop", proxies=Proxies(every=20)), _tipped(3, "note", proxies=Proxies(every=20))),
    ],
    ids=["a model more", "a model less", "other segments", "segments", "none", "detectors", "windows", "features"],
)
def test_a_changed_declaration_over_a_checkpoint(before, after):
    """As the error says, --accept-change keeps the state: whatever was changed, the worker goes on and comes back."""
    log = Log()
    life = Life(log, before, key=KEY)
    for day in range(4):
        _day(log, day)
        life.work(17)
    life.checkpoint()
    life = Life(log, after, key=KEY, accept_change=True)
    for day in range(4, 8):
        _day(log, day)
        life.work(17)
        counts, pending = life.task.chain.counts, life.task.chain.pending
        assert counts["predictions"] == counts["labelled"] + counts.get("expired", 0) + pending
        assert Life(log, after, key=KEY).state == life.state
    life.checkpoint()
    assert Life(log, after, key=KEY).state == life.state


def test_retraining_leaves_out_examples_with_other_features(monkeypatch):
    """A fresh copy learns from where the features are the present ones; the log before is there, and no obstacle."""
    monkeypatch.setattr(Log, "stable", lambda log, topic, shard: log.watermarks(topic, shard)[1], raising=False)
    log = Log()
    life = Life(log, _declared(2), key=KEY)
    for day in range(3):
        _day(log, day)
        life.work()
    life.checkpoint()
    life = Life(log, _tipped(2), key=KEY, accept_change=True)
    chain = life.task.chain
    chain.history = logged(lambda: log, _topic, 0, chain)
    wanted = [Command("r", "retrain", 0, "me", "steep", name="anew"), Command("a", "adopt", 0, "me", "anew")]
    for day, command in enumerate(wanted, 3):
        log.send("registry", 0, None, msgspec.json.encode(command))
        _day(log, day)
        life.work()
    assert chain.learned()[-1] == ("anew", 80 + 40, 80)


def test_scores_stay_with_their_models():
    """With a model more, in front of the others, each goes on with its own scores, and the new one with none."""
    log = Log()
    life = Life(log, _declared(2, "shop"), key=KEY)
    for day in range(3):
        _day(log, day)
        life.work()
    life.checkpoint()
    known = life.task.chain.summary()
    found = Life(log, _declared(3, "shop"), key=KEY, accept_change=True).task.chain.summary()
    assert {name: found[name] for name in known} == known
    assert list(found) == ["flat", *known]
    assert found["flat"]["Accuracy"] is None


SPENT = small().features["spent"]
VISITS = count(by="shop", over="3h")
HOURLY, RATE = count(by="shop", over="1h", tile="5m"), mean(label(), by="shop", over="3h")


def _windowed(**features):
    """A pipeline with these windows."""
    return small(features={"spent": SPENT} | features)


def _rows(life):
    """What its windows by shop hold: the names of the groups, and shop to row."""
    states = life.task.chain.stores.states["featurize"]
    (name,) = [table.name for table in life.task.chain.pipeline.featurize.plan.tables]
    return name.split("/")[1:], dict(states[name].items())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"visits": VISITS}, {"rate": RATE, "visits": VISITS}),
        ({"visits": VISITS, "rate": RATE}, {"rate": RATE}),
        ({"visits": VISITS, "rate": RATE}, {"hourly": HOURLY, "rate": RATE, "visits": VISITS}),
        ({"visits": VISITS, "hourly": HOURLY}, {"hourly": HOURLY, "visits": VISITS}),
    ],
    ids=["one more", "one less", "another place", "another order"],
)
def test_windows_stay_with_their_declaration(before, after):
    """Whatever else is declared by the same columns: the others hold what they held, and new ones nothing."""
    log = Log()
    life = Life(log, _windowed(**before), key=KEY)
    for day in (0, 1):
        _day(log, day)
        life.work()
    life.checkpoint()
    assert Version.of(_windowed(**before)).hash != Version.of(_windowed(**after)).hash
    was, held = _rows(life)
    life = Life(log, _windowed(**after), key=KEY, accept_change=True)
    names, rows = _rows(life)
    stayed = set(was) & set(names)
    assert stayed
    assert rows
    for shop, row in rows.items():
        found, expected = dict(zip(names, row, strict=True)), dict(zip(was, held[shop], strict=True))
        assert {name: found[name] for name in stayed} == {name: expected[name] for name in stayed}
        assert not any(found[name] for name in set(names) - stayed)
    assert any(dict(zip(names, row, strict=True))[name] for row in rows.values() for name in stayed)
    _day(log, 2)
    life.work()
    life.checkpoint()
    assert Life(log, _windowed(**after), key=KEY).state == life.state


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (_windowed(visits=VISITS), _windowed(visits=VISITS, hourly=HOURLY)),
        (_windowed(visits=VISITS), small(features={"spent": SPENT, "visits": VISITS}, evaluate_every=7)),
    ],
    ids=["other windows", "the same"],
)
def test_what_is_replayed_after_a_change_is_evicted(before, after):
    """Carried windows, and what the journal adds to them, are forgotten in time; a restart finds the same."""
    log = Log()
    life = Life(log, before, key=KEY)
    _day(log, 0)
    life.work()
    life.checkpoint()
    _day(log, 1)
    life.work()
    life = Life(log, after, key=KEY, accept_change=True)
    for day in (2, 3):
        _day(log, day)
        life.work()
        assert {shop[0] for shop in _rows(life)[1]} == {f"{day}"}
        assert Life(log, after, key=KEY).state == life.state


OTHER = mean(label(), by="id", over="3h")


@pytest.mark.parametrize(
    ("before", "after", "shops"),
    [
        ({"rate": RATE}, {"other": OTHER, "rate": RATE}, 7),
        ({"rate": RATE, "other": OTHER}, {"other": OTHER, "rate": RATE}, 7),
        ({"rate": RATE, "other": OTHER}, {"rate": RATE}, 7),
        ({"other": OTHER}, {"rate": RATE}, 0),
        ({}, {"rate": RATE}, 0),
        ({"rate": RATE}, {}, None),
    ],
    ids=["one more", "another order", "one less", "another", "the first", "none"],
)
def test_outcomes_find_their_windows(before, after, shops):
    """Events that wait for their label while windows over outcomes change: their outcome goes where it belonged."""
    log = Log()
    life = Life(log, _windowed(**before), key=KEY)
    _day(log, 0)
    life.work()
    life.checkpoint()
    life = Life(log, _windowed(**after), key=KEY, accept_change=True)
    _day(log, 1)
    life.work()
    states = life.task.chain.stores.states["featurize"]
    found = [set(states[name].data) for name in states if name.startswith("shop/") and not name.endswith(".index")]
    assert [len(keys & {f"0{i}" for i in range(7)}) for keys in found] == ([] if shops is None else [shops])
    life.checkpoint()
    assert Life(log, _windowed(**after), key=KEY).state == life.state


def test_windows_that_were_given_up_begin_anew():
    """What an older checkpoint holds of a store that is no more is deleted, not found again by a later declaration."""
    log = Log()
    life = Life(log, _windowed(visits=VISITS), key=KEY)
    _day(log, 0)
    life.work()
    life.checkpoint()
    life = Life(log, _windowed(), key=KEY, accept_change=True)
    life.checkpoint()
    life = Life(log, _windowed(visits=VISITS), key=KEY, accept_change=True)
    assert _rows(life)[1] == {}


def test_events_that_lack_a_feature_are_not_learned():
    """Their labels come to no example: they count as expired, and the labels as those of refused events."""
    log = Log()
    life = Life(log, _declared(2), key=KEY)
    _day(log, 0)
    life.work()
    life.checkpoint()
    life = Life(log, _tipped(2), key=KEY, accept_change=True)
    assert (life.task.chain.pending, life.task.chain.counts["expired"]) == (0, 40)
    for day in (1, 2):
        _day(log, day)
        life.work()
    counts = life.task.chain.counts
    assert (counts["labelled"], counts["labels.refused"], counts["refused_pending"]) == (40, 40, 0)


JUNK_KEYS = [
    *(b"", b"\xc1", b"junk", pack("lane"), pack(()), pack(("lane",)), pack(("lane", "x")), pack(("lane", 3))),
    *(pack(("lane", 1, 2, 3)), pack(("lane", "chain", "clock", {"a": 1})), pack(("lane", "chain", "clock", "a"))),
    *(pack(("lane", "a", "b", "c", "d", "e")), pack({"lane": 1}), pack((["lane"], "marker")), b"\x91" * 5_000, None),
    pack(("nobody", "chain", "clock", 0)),
]
"""Keys that no checkpoint has, for `P.state`; what else stands before a name in `P.savepoints` is none there either."""


def _saved_twice():
    """A log with a savepoint and a checkpoint, and what came after them."""
    log = Log()
    one = Life(log, small(), key=KEY)
    for day in range(2):
        _day(log, day)
        one.work()
        one.savepoint()
    _day(log, 2)
    one.work()
    return log, one


def test_keys_of_others_stop_no_recovery():
    """They are passed over, and so are journal records that no group of stages wrote."""
    log, one = _saved_twice()
    for topic in ("state", "savepoints", "journal"):
        before = list(log.records[topic])
        log.records[topic] = []
        for record in before:
            for key in JUNK_KEYS if record in before[-3:] else ():
                log.send(topic, 0, key, b"junk")
            log.send(topic, 0, record.key, record.value)
    for key in (b"\xff", b"nobody", b"", b"predict-join", None):
        log.send("journal", 0, key, b"junk")
    again = Life(log, small(), key=KEY)
    assert again.found.refused is None
    assert again.state == one.state
    again.savepoint()
    assert len(list(savepoints("lane", 0, _topic, log))) == 3
    assert audit(small(), lambda: log, _topic, codec=CODEC).different == 0


@pytest.mark.parametrize(
    "value", [b"", b"junk", b"\xc1", pack(None), pack(7), pack({"seq": 1}), pack([1, b"x"]), pack([2, b"x"])]
)
@pytest.mark.parametrize("key", [("marker",), ("chain", "clock", 0), ("join", "pending", 0), ("chain", "progress", 0)])
def test_a_checkpoint_with_a_value_of_others_is_refused(key, value):
    """Everything is rebuilt, and the next checkpoint replaces it."""
    log, one = _saved_twice()
    marker = next(record for record in reversed(log.records["state"]) if record.key == pack(("lane", "marker")))
    log.send("state", 0, pack(("lane", *key)), value)
    if key != ("marker",):
        log.send("state", 0, marker.key, marker.value)
    again = Life(log, small(), key=KEY)
    assert again.found.refused is not None
    assert again.state == one.state
    again.checkpoint()
    healed = Life(log, small(), key=KEY)
    assert healed.found.refused is None
    assert healed.state == one.state


def test_audit_passes_over_a_savepoint_that_was_damaged():
    """Its marker says nothing, or an entry is none: the next one is taken."""
    log, _ = _saved_twice()
    for damage in (True, False):
        found = Log({"events": 40})
        found.records = {topic: list(records) for topic, records in log.records.items()}
        found.records["events"] = found.records["events"][40:]
        kept = found.records["savepoints"]
        place = next(i for i, record in enumerate(kept) if (b"marker" in record.key) is damage)
        kept[place] = kept[place]._replace(value=b"junk")
        result = audit(small(), functools.partial(_itself, found), _topic, codec=CODEC)
        assert result.different == 0
        assert result.ranges["lane/0"]["events"] == [80, 120]


def _itself(log):
    return log
