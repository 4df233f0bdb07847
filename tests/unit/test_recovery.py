"""Recovery over a log in memory: first starts, refused checkpoints, savepoints, other groups."""

from __future__ import annotations

import functools

import pytest

from headrace import count
from headrace.streams.checkpoint import Checkpoint, LastSavepoint
from headrace.streams.errors import Lost, Stalled, UsageError
from headrace.streams.identity.canonical import state_hash
from headrace.streams.models.keys import SigningKey
from headrace.streams.models.snapshots import Sealed
from headrace.streams.packing import pack
from headrace.streams.replay.audit import audit
from headrace.streams.savepoints import copy, savepoints
from headrace.streams.task import Task
from headrace.streams.topology import group_of
from tests.lives import Life, Log, named, publish, publish_day
from tests.small import event, small

KEY = SigningKey.generate()
CODEC = Sealed(KEY, {KEY.key_id: KEY.verify_key})


def test_died_between_the_first_epoch_and_the_first_batch():
    """A worker that died right after opening its first epoch goes on where it began, though old inputs are gone."""
    log = Log({"events": 100, "labels": 7})
    first = Life(log, small())
    assert Life(log, small(), committed=first.committed).task.positions == [0, 7, 100]


def test_died_before_the_first_checkpoint():
    """The journal alone says where it began, when old inputs were gone."""
    log = Log({"events": 100, "labels": 7})
    first = Life(log, small())
    publish(log, [event(f"e{n}", n) for n in range(20)])
    first.work()
    again = Life(log, small(), committed=first.committed)
    assert (again.state, again.task.positions) == (first.state, [0, 7, 120])


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
        publish_day(log, day)
        life.work()
        life.checkpoint()
    life = Life(log, small(), key=new)
    assert life.found.checkpoint_seq is None
    assert str(life.found.refused).startswith("untrusted")
    for day in (4, 5):
        life.checkpoint()
        publish_day(log, day)
        life.work()
    life.checkpoint()
    assert Life(log, small(), key=new).state == life.state


def _checkpointed(outputs=None):
    """A log with twenty events, and who has them all in a checkpoint."""
    log = Log()
    publish(log, [event(f"e{n}", n) for n in range(20)])
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
    publish(log, [event("late", 30)])
    again.work()
    assert again.task.chain.counts["predictions"] == 21
    again.checkpoint()
    assert Life(log, small(), key=KEY).state == again.state


def test_a_state_that_was_followed_by_what_is_gone():
    """Whatever was journalled after the checkpoint cannot be made again: going on would publish it a second time."""
    log, life = _checkpointed()
    publish(log, [event(f"f{n}", 20 + n) for n in range(150)])
    life.work()
    _forget_all(log, "journal")
    with pytest.raises(Lost, match="journal"):
        Life(log, small(), key=KEY)


def test_a_journal_that_is_a_copy():
    """On another cluster offsets are others: nothing followed the checkpoint there, and all came out twice."""
    log, life = _checkpointed()
    publish(log, [event("late", 30)])
    life.work()
    life.checkpoint()
    publish(log, [event("later", 31)])
    life.work()
    del log.records["journal"][:-1]
    with pytest.raises(Lost, match=r"journal.* ends at offset 1, .* another cluster's copy.* `headrace reset` starts"):
        Life(log, small(), key=KEY)


def test_a_journal_whose_first_records_are_gone():
    """A worker that runs once a month: what came before the last checkpoint is gone, what comes next is whole."""
    log, life = _checkpointed()
    publish(log, [event("late", 30)])
    life.work()
    life.checkpoint()
    publish(log, [event("later", 31)])
    for followed in (False, True):
        if followed:
            life.work()
        _forget(log, "journal", 2)
        again = Life(log, small(), key=KEY)
        assert (again.state, again.task.positions) == (life.state, life.task.positions)


def test_a_journal_in_which_others_went_on():
    """Groups share a topic: what one of them wrote is gone, what others have since is not, so that nothing of it is."""
    log, apart = Log(), {"stages": ["validate", "featurize"], "key": KEY}
    publish(log, [event("early", 0)])
    Life(log, small(), **apart).work()
    life = Life(log, small(), **apart)
    life.checkpoint()
    then = log.watermarks("journal", 0)[1]
    Life(log, small(), stages=["predict", "join", "train", "evaluate"], key=KEY).work()
    for before in (1, then):
        _forget(log, "journal", before)
        assert Life(log, small(), **apart).state == life.state
    _forget_all(log, "journal")
    with pytest.raises(Lost, match="of validate-featurize's journal"):
        Life(log, small(), **apart)


def test_what_is_lost_is_told_with_the_next_step():
    """Records that followed the checkpoint are gone, or those that one with another key would be rebuilt from."""
    log, life = _checkpointed()
    publish(log, [event(f"f{n}", 20 + n) for n in range(150)])
    life.work()
    _forget(log, "events", 50)
    with pytest.raises(Lost, match=r"events.* is gone.* `headrace reset` starts anew"):
        Life(log, small(), key=KEY)
    with pytest.raises(Lost, match=r"refused \(untrusted.*keys trust`\); else `headrace reset`"):
        Life(log, small(), key=SigningKey.generate())


def test_offsets_that_somebody_set_beyond_the_journal():
    """The group that is advised to be forgotten is the one that has them; without them it goes on where it was.

    What says by itself what to do is not told so a second time.
    """
    log, life = _checkpointed()
    told = r"offset 99, the journal ends at 20.*--delete --group small\).*, `headrace reset` starts anew\.\Z"
    with pytest.raises(Lost, match=told):
        Life(log, small(), key=KEY, committed=life.committed | {"events": 99})
    assert Life(log, small(), key=KEY).task.positions == life.task.positions


def _forget_all(log, topic):
    _forget(log, topic, log.watermarks(topic, 0)[1])


def _forget(log, topic, before):
    log.records[topic] = log.records[topic][before - log.lows.get(topic, 0) :]
    log.lows[topic] = before


def test_a_checkpoint_that_is_read_while_the_next_one_is_written():
    """What follows the last marker is half of another: it is left out."""
    log, life = _checkpointed(outputs={})
    state, count = life.state, len(log.records["state"])
    publish(log, [event(f"f{n}", 20 + n) for n in range(20)])
    life.work()
    life.checkpoint()
    log.records["state"] = log.records["state"][: (count + len(log.records["state"])) // 2]
    copy(life.task.group.name, 0, named, log, log, lambda: 0.0)
    (savepoint,) = savepoints(life.task.group.name, 0, named, log)
    task = Task(small(), group_of(), 0, topics=named, codec=Sealed(KEY, {KEY.key_id: KEY.verify_key}))
    task.restore(savepoint.entries, savepoint.marker)
    assert state_hash(task.chain.stores.contents()) == state


def test_a_checkpoint_that_is_copied_when_the_next_one_is_written():
    """As that of the end of a worker, which has no savepoint of its own to become."""
    log, life = _checkpointed(outputs={})
    state, end = life.state, log.watermarks("state", 0)[1]
    publish(log, [event("late", 30)])
    life.work()
    life.checkpoint()
    given = (life.task.group.name, 0, named, log, log, lambda: 0.0)
    assert copy(*given) is None
    for _ in range(2):  # whoever comes after one that died with it makes no other
        copy(*given, end)
    (savepoint,) = savepoints(life.task.group.name, 0, named, log)
    task = Task(small(), group_of(), 0, topics=named, codec=CODEC)
    task.restore(savepoint.entries, savepoint.marker)
    assert state_hash(task.chain.stores.contents()) == state


def test_a_savepoint_that_took_too_long_is_not_committed():
    """Compaction may have taken away meanwhile what the copy had not read."""
    log = Log()
    publish(log, [event("e", 0)])
    life = Life(log, small(), key=KEY)
    life.work()
    with pytest.raises(Stalled, match="it may mix two"):
        life.savepoint(seconds=61.0)
    life.savepoint(seconds=60.0)


def test_a_checkpoint_tells_when_the_last_savepoint_was_made():
    """So that a restart does not begin with another."""
    log, last = Log(), LastSavepoint(0, 1_700_000_000_000)
    publish_day(log, 0)
    life = Life(log, small(), key=KEY)
    life.work()
    Checkpoint(life.task, life.version, 0, "state", log, savepoint=last).write(None)
    assert Life(log, small(), key=KEY).found.savepoint == last


def test_same_stages_in_another_group():
    """Stages that have run in the lane are not run a second time as a part of it, over the same topics."""
    log = Log()
    Life(log, small())
    with pytest.raises(UsageError, match="validate, featurize ran before with no `--stages`: run"):
        Life(log, small(), stages=["validate", "featurize"])


def test_the_whole_chain_after_some_stages():
    """It is told how they ran."""
    log = Log()
    Life(log, small(), stages=["validate", "featurize"])
    with pytest.raises(UsageError, match="validate, featurize ran before with `--stages validate,featurize`: run"):
        Life(log, small())


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
        publish(log, [event(f"{i}", i / 10, spent=spent)])
        life.work()
        life.checkpoint()
    assert Life(log, pipeline, key=key).state == life.state


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
        publish_day(log, day)
        one.work()
        one.savepoint()
    publish_day(log, 2)
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
    assert len(list(savepoints("lane", 0, named, log))) == 3
    assert audit(small(), lambda: log, named, codec=CODEC).different == 0


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
        result = audit(small(), functools.partial(_itself, found), named, codec=CODEC)
        assert result.different == 0
        assert result.ranges["lane/0"]["events"] == [80, 120]


def _itself(log):
    return log
