"""Policies: which commands they send, under which ids, and when."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from headrace.processors.registry import fold, fresh
from headrace.schemas.records import Command, Fact
from headrace.streams.control.agents import Incoming
from headrace.streams.control.policies import Approvals, Registries, Schedules, retraining
from headrace.streams.errors import Unreachable, UsageError
from tests.inmemory import Log
from tests.small import event, known, play, small

HOUR_S = 3600


def fact(version: int, kind: str, model: str, status: str | None = None, **more: Any) -> Fact:
    """A fact about one of two models."""
    evidence = {"hash": "h", "base": "logreg", "from_n": 0, "from_ms": None}
    return Fact(version, kind, model, status, "logreg", 0, 0, None, {}, "t", "", evidence, **more)


class Fake:
    """Registries that are folds of these facts; what is sent is written down."""

    def __init__(self, *facts: Fact, shards: int = 1) -> None:
        self.folds = {shard: fresh() for shard in range(shards)}
        self.sent: list[Command] = []
        self.failures = 0
        for each in facts:
            self.take(each)

    def take(self, each: Fact) -> None:
        for known_ in self.folds.values():
            fold(known_, each)

    def now(self) -> dict[int, dict[str, Any]]:
        if self.failures:
            self.failures -= 1
            raise Unreachable("No Kafka broker answers.")
        return self.folds

    def send(self, commands: list[Command]) -> None:
        self.sent += commands


def record(value: Any) -> Incoming:
    """A record of the registry topic."""
    raw = value if isinstance(value, bytes) or value is None else msgspec.json.encode(value)
    return Incoming("p.registry", 0, 0, None, raw, 0)


TWO = (fact(1, "registered", "logreg", "champion"), fact(2, "registered", "new", "challenger"))
PROPOSED = fact(3, "proposed", "new", "challenger")


def approved(fake: Fake, *values: Any) -> list[Command]:
    """What is sent when these records are seen."""
    approvals = Approvals(fake)  # type: ignore[arg-type]
    for value in values:
        asyncio.run(approvals.take(record(value)))
    return fake.sent


def test_a_proposal_is_approved():
    """With the registry version that it rests on."""
    [command] = approved(Fake(*TWO, PROPOSED), PROPOSED)
    assert (command.kind, command.model, command.shard, command.saw, command.by) == ("approve", "new", 0, 3, "control")
    assert len(command.id) < 100


def test_the_same_approval_has_the_same_bytes():
    """Whoever makes it, and whenever."""
    first, second = (approved(Fake(*TWO, PROPOSED), PROPOSED)[0] for _ in range(2))
    assert msgspec.json.encode(first) == msgspec.json.encode(second)


def test_an_answered_approval_is_not_sent_again():
    """The registry remembers which commands it has answered."""
    fake = Fake(*TWO, PROPOSED)
    [command] = approved(fake, PROPOSED)
    fake.take(fact(4, "promoted", "new", "champion", command=command.id))
    assert approved(fake, PROPOSED) == [command]


@pytest.mark.parametrize(
    "value",
    [None, b"", b"{", b"[]", TWO[0], TWO[1], Command("x", "promote", 0, "me", "new"), fact(3, "promoted", "new")],
)
def test_nothing_else_is_approved(value: Any):
    """Commands, other facts, and what nobody can read."""
    assert approved(Fake(*TWO), value) == []


def test_a_registry_is_read_on_and_anew_where_its_topic_is_another():
    """After `headrace reset` its facts begin again, and what was before is nothing."""
    log = Log()
    registries = Registries(small(), SimpleNamespace(reader=log.reader))  # type: ignore[arg-type]

    def after(*facts: Fact) -> tuple[int, list[str]]:
        log.begin()
        for each in facts:
            log.send("small.registry", 0, None, msgspec.json.encode(each))
        log.commit()
        known_ = registries.now()[0]
        return known_["version"], list(known_["proposals"])

    assert after(*TWO) == (2, [])
    assert after(PROPOSED) == (3, ["new"])
    log.records.clear()
    assert after(*TWO) == (2, [])


def test_a_refusal_of_somebody_else_s_command_is_no_reason():
    """Only of our own approvals."""
    fake = Fake(*TWO, PROPOSED)
    assert approved(fake, fact(4, "refused", "new", command="by-a-person")) == []


def test_a_worker_promotes_once_for_two_copies_of_a_command():
    """The second copy is ignored: no fact, no refusal."""
    pipeline = small(models={**small().models, "other": small().models["logreg"]})
    command = msgspec.json.encode(Command("approve-1", "promote", 0, "control", "other"))
    result = play(pipeline, [event("a", 1)], [known("a", 2)], commands=[(b"other", command), (b"other", command)])
    facts = [msgspec.json.decode(value or b"") for _, _, value, _ in result.outputs["registry"]]
    assert [found["kind"] for found in facts] == ["registered", "registered", "promoted"]


# -- schedules -------------------------------------------------------------------------------------------------------


def scheduled(fake: Fake, began: float, until: float, *texts: str) -> list[Command]:
    """What schedules send from one moment to another, by a clock that jumps from time to time."""
    now = began
    declared = [retraining(text, small()) for text in texts]
    schedules = Schedules(fake, declared, wall=lambda: now, pauses_s=(0.001,))  # type: ignore[arg-type]

    async def test() -> None:
        nonlocal now
        task = asyncio.ensure_future(schedules.run())
        await asyncio.sleep(0.1)
        while now < until:
            now += 600
            await asyncio.sleep(0.12)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(test())
    return fake.sent


NOON = datetime(2026, 3, 1, 12, 5, tzinfo=UTC).timestamp()


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Schedules look at the clock all the time."""
    monkeypatch.setattr("headrace.streams.control.policies._LONGEST_NAP_S", 0.02)


def test_a_model_is_retrained_at_its_time(monkeypatch: pytest.MonkeyPatch):
    """Under a name made of the time that was due; not at the start, and once."""
    quick(monkeypatch)
    sent = scheduled(Fake(*TWO), NOON, NOON + HOUR_S, "logreg=0 * * * *")
    assert [(c.kind, c.model, c.name) for c in sent] == [("retrain", "logreg", "logreg-20260301-1300")]


def test_every_shard_is_asked(monkeypatch: pytest.MonkeyPatch):
    """Each by a copy of its own, with ids of their own."""
    quick(monkeypatch)
    sent = scheduled(Fake(*TWO, shards=2), NOON, NOON + HOUR_S, "logreg=0 * * * *")
    assert [(c.shard, c.name) for c in sent] == [(0, "logreg-20260301-1300"), (1, "logreg-20260301-1300")]
    assert len({c.id for c in sent}) == 2


def test_the_copy_before_retires_unless_it_serves(monkeypatch: pytest.MonkeyPatch):
    """A champion of an earlier time stays, and models of people's own making do."""
    quick(monkeypatch)
    fake = Fake(
        *TWO,
        fact(3, "retraining", "logreg-20260301-1000", "retraining"),
        fact(4, "retraining", "logreg-20260301-1200", "retraining"),
        fact(5, "retraining", "logreg-mine", "retraining"),
        fact(6, "caught_up", "logreg-20260301-1000", "challenger"),
        fact(7, "promoted", "logreg-20260301-1000", "champion"),
    )
    sent = scheduled(fake, NOON, NOON + HOUR_S, "logreg=0 * * * *")
    assert [(c.kind, c.model, c.name) for c in sent] == [
        ("retire", "logreg-20260301-1200", None),
        ("retrain", "logreg", "logreg-20260301-1300"),
    ]


def test_a_time_that_was_missed_is_made_up_for_once(monkeypatch: pytest.MonkeyPatch):
    """The latest one, where the schedule has been in force before; Kafka may be away meanwhile."""
    quick(monkeypatch)
    fake = Fake(*TWO, fact(3, "retraining", "logreg-20260301-0700", "retraining"))
    fake.failures = 3
    sent = scheduled(fake, NOON, NOON, "logreg=0 * * * *")
    assert [c.name for c in sent if c.kind == "retrain"] == ["logreg-20260301-1200"]


def test_one_that_is_there_already_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch):
    """A process that starts right after its time has nothing to do."""
    quick(monkeypatch)
    fake = Fake(*TWO, fact(3, "retraining", "logreg-20260301-1200", "retraining"))
    assert scheduled(fake, NOON, NOON, "logreg=0 * * * *") == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("logreg", "MODEL=CRON with a declared model"),
        ("nobody=0 3 * * 1", "MODEL=CRON with a declared model"),
        ("logreg=", "cron's five fields"),
        ("logreg=0 3 * *", "cron's five fields"),
        ("logreg=0 3 * * 1 0", "cron's five fields"),
        ("logreg=61 3 * * 1", "cron's five fields"),
        ("logreg=@daily", "cron's five fields"),
        ("logreg=R R * * *", "without letters other than names of months and weekdays, and L"),
        ("logreg=r(0-9)/3 4 * * *", "without letters other than names of months and weekdays, and L"),
        ("logreg=0 0 31 2 *", "legal: one that comes about"),
    ],
)
def test_a_schedule_that_cannot_be_is_one_sentence(text: str, said: str):
    """Which names what is legal."""
    with pytest.raises(UsageError, match=said):
        retraining(text, small())


@pytest.mark.parametrize("cron", ["*/5 0-3,7 l jan-MAR *", "0 3 * * thu#2,L5", "30 6 1 APR,jul ?"])
def test_names_and_last_days_are_cron_too(cron: str):
    """And come about at the same times whenever they are asked for."""
    made = retraining(f"logreg={cron}", small())
    assert len({(made.last(NOON), made.next(NOON)) for _ in range(5)}) == 1
