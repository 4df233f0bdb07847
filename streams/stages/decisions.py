"""Decisions: who serves, as the registry of this task says, and every fact that changes it.

A command comes as a record of `P.registry` at the beginning of a batch; a decision made inside the data plane (a gate)
comes by `decide`, at the example that led to it. Either way the fact takes effect at once, and is published with what
else the batch makes: nobody else writes facts, and replay makes the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from headrace.processors.registry import CELL, MOST_RETRAINED, SERVING, answer, applies, fold, retrained
from headrace.schemas.records import BEFORE_ALL, Command, Fact, Input
from headrace.schemas.wire import BadRecord
from headrace.streams.models.authority import refusal
from headrace.streams.stages.context import Context

__all__ = ["Decisions"]

_json = msgspec.json.Encoder().encode
_NO_EXAMPLES = "the pipeline publishes no examples, so there is nothing to learn from"
_FULL = f"at most {MOST_RETRAINED} retrained models live at a time, and this one does not serve"
_STATUS = {
    "promoted": "champion",
    "rolled_back": "champion",
    "canary": "canary",
    "shadow": "challenger",
    "retired": "retired",
    "caught_up": "challenger",
}


class Decisions:
    """The registry of one task, and the only hand that changes it.

    `watchers` are called with each fact that changed something, after the registry has it and before the next record.
    `moved` says that a retrained model may have come or gone since somebody last looked, `waiting` that one catches up.
    """

    def __init__(self, context: Context, settle: Callable[[], None]) -> None:
        self.context, self._settle = context, settle
        self.registry: dict[str, Any] = context.states["registry"][CELL].value
        self.watchers: list[Callable[[Fact], None]] = []
        self.moved = True
        self.waiting = any(known["status"] == "retraining" for known in self.registry["models"].values())
        self._at: dict[str, int] = {}

    @property
    def champion(self) -> str:
        """Who serves; the declared champion where the registry names nobody who is there."""
        declared = self.context.pipeline.champion
        named = self.registry["champion"]
        return str(named) if named in self.context.pipeline.models else declared

    def status(self, model: str) -> str:
        """What a model is: champion, challenger, canary or retired."""
        entry = self.registry["models"].get(model)
        if entry is None:
            return "champion" if model == self.champion else "challenger"
        return str(entry["status"])

    @property
    def retrained(self) -> dict[str, str]:
        """Retrained models that take part, each with the declared one that it is made from."""
        models = self.registry["models"].items()
        return {
            name: known["base"]
            for name, known in models
            if known["base"] is not None and known["status"] not in ("retraining", "retired")
        }

    @property
    def catching_up(self) -> dict[str, dict[str, Any]]:
        """Retrained models that do not take part yet, with what the registry says of them."""
        return {name: known for name, known in self.registry["models"].items() if known["status"] == "retraining"}

    @property
    def heir(self) -> str | None:
        """Who is champion by declaration from the next epoch on; None where the registry's champion stays."""
        p, registry = self.context.pipeline, self.registry
        moved = registry["champion"] in self._undeclared or registry["declared"] not in (None, p.champion)
        return p.champion if moved and registry["champion"] != p.champion else None

    @property
    def _undeclared(self) -> list[str]:
        """Models that were declared, and are no more."""
        models = self.registry["models"].items()
        return [name for name, known in models if name not in self.context.pipeline.models and known["base"] is None]

    def hopeless(self, model: str) -> str | None:
        """Why this model, or a copy of it, cannot be learned from the training log as things are; None if it can."""
        p, entry = self.context.pipeline, self.registry["models"][model]
        if "examples" not in p.publish:
            return _NO_EXAMPLES
        base = entry["base"] or model
        return None if base in p.models else f"{base}, of which it is a copy, is not declared any more"

    def retrain(
        self,
        base: str,
        last: int | None,
        at: Mapping[str, int],
        *,
        by: str = "schedule",
        why: str | None = None,
        evidence: Mapping[str, Any] | None = None,
    ) -> None:
        """Let a fresh copy of a declared model catch up; the one before it (``base-N``) retires, unless it serves.

        So do others that do not serve, where there would be more than `MOST_RETRAINED`: the oldest first, but first of
        all those after which another was made of the same model.
        """
        if self.status(base) == "retired":
            return
        count = self.registry["schedules"].get(base, [0])[0] + 1
        while f"{base}-{count}" in self.registry["models"]:
            count += 1
        why, n = why or f"retraining of {base} was due", self.context.progress[0]
        models = self.registry["models"]
        for before in [name for name in retrained(self.registry) if models[name]["base"] == base]:
            if before.removeprefix(f"{base}-").isdecimal() and self.status(before) in ("challenger", "retraining"):
                self._note("retired", before, "retired", by=by, why=why, evidence={}, at=at)
        living = retrained(self.registry)
        newest = {models[name]["base"]: name for name in living}
        idle = [name for name, status in living.items() if status not in SERVING]
        idle.sort(key=lambda name: newest[models[name]["base"]] == name)
        for name in idle[: max(0, len(living) + 1 - MOST_RETRAINED)]:
            self._note("retired", name, "retired", by=by, why=_FULL, evidence={}, at=at)
        from_n = 0 if last is None else max(0, n - last)
        told = {
            "base": base,
            "hash": self.context.pipeline.model_hashes[base],
            "from_n": from_n,
            "from_ms": None,
        } | dict(evidence or {})
        self._note("retraining", f"{base}-{count}", "retraining", by=by, why=why, evidence=told, at=at)

    def begin(self, epoch: int, at: Mapping[str, int]) -> None:
        """A batch begins; the first one of an epoch brings what the declaration changed into the registry."""
        self._at = dict(at)
        if self.registry["epoch"] != epoch:
            self.registry["epoch"] = epoch
            self._declare()

    def decide(
        self,
        kind: str,
        model: str,
        *,
        why: str,
        evidence: Mapping[str, Any],
        at: Mapping[str, int] | None = None,
        by: str = "gate",
    ) -> Fact | None:
        """Decide something about a model, here and now, and publish the fact; None if it makes no sense as things are.

        Parameters
        ----------
        kind
            ``promoted``, ``proposed`` (a person is to approve), ``rolled_back``, ``canary`` (evidence has the
            `share`), ``shadow`` (a canary ends), ``retired``.
        evidence
            Plain values by name, the same at every replay.
        at
            Offsets of the example that decided, by input role; None: of the records with which the batch began, which
            depends on how the input is cut into batches, so that live and backtest differ in it.
        """
        if not applies(self.registry, kind, model):
            return None
        status = _STATUS.get(kind, self.status(model))
        return self._note(kind, model, status, by=by, why=why, evidence=evidence, at=at)

    def on_record(self, item: Input) -> None:
        """A record of the registry: a command is answered by a fact; facts are our own, and known."""
        record = item.payload
        if type(record) is Command:
            self._command(record, self._at | {"registry": item.offset})
        elif type(record) is BadRecord:
            self.context.dead("evaluate", "registry", record.reason, record.detail, item)

    def _command(self, command: Command, at: Mapping[str, int]) -> None:
        if command.id in self.registry["commands"]:
            self.context.count("commands.again")
            return
        denied = refusal(self.context.pipeline, command, self.context.shard)
        if denied is not None:  # its id is not kept: somebody else's command may have it
            now, forged = self.status(str(command.model)), {"command": command.id}
            self._note("refused", command.model, now, by=command.by, why=denied, evidence=forged, at=at)
            return
        kind, model, status, why, evidence = answer(self.registry, command, self.context.shard)
        hopeless = self.hopeless(str(command.model)) if kind in ("retraining", "caught_up") else None
        if hopeless is not None:
            kind, model, status, why = "refused", command.model, self.status(str(command.model)), hopeless
        elif kind == "caught_up":
            evidence = {"examples": self.context.progress[0]}
        by, name, saw = command.by, command.id, command.saw
        self._note(kind, model, status, by=by, why=why, evidence=evidence, at=at, command=name, saw=saw)

    def _declare(self) -> None:
        """Bring new, changed and dropped declarations, and another declared champion, into the registry."""
        p, registry = self.context.pipeline, self.registry
        first = registry["champion"] is None
        for name, declared in p.model_hashes.items():
            known = registry["models"].get(name)
            if known is None or (known["base"] is None and known["hash"] != declared):
                status = "champion" if name == (p.champion if first else registry["champion"]) else "challenger"
                self._declared("registered", name, status, {"hash": declared})
        if (heir := self.heir) is not None:
            self._declared("promoted", heir, "champion", {"before": registry["champion"]})
        for name in self._undeclared:
            if self.status(name) != "retired":
                self._declared("retired", name, "retired", {})
        registry["declared"] = p.champion

    def _declared(self, kind: str, model: str, status: str, evidence: dict[str, Any]) -> None:
        self._note(kind, model, status, by="declaration", why="", evidence=evidence)

    def _note(
        self,
        kind: str,
        model: str | None,
        status: str | None,
        *,
        by: str,
        why: str,
        evidence: Mapping[str, Any],
        at: Mapping[str, int] | None = None,
        command: str | None = None,
        saw: int | None = None,
    ) -> Fact:
        """Number a fact, publish it, and let it take effect; what was noted before is settled as things were."""
        context, registry = self.context, self.registry
        self._settle()
        version = registry["version"] + 1
        stream_ms = context.clock[0]
        fact = Fact(
            version=version,
            kind=kind,
            model=model,
            status=status,
            champion=model if status == "champion" else registry["champion"],
            shard=context.shard,
            n=context.progress[0],
            time_ms=None if stream_ms == BEFORE_ALL else stream_ms,
            at=dict(self._at if at is None else at),
            by=by,
            why=why,
            evidence=dict(evidence),
            command=command,
            saw=saw,
        )
        fold(registry, fact)
        context.count(f"facts.{kind}")
        context.outbox.put(("registry", None if model is None else model.encode(), _json(fact), None))
        self.moved = self.moved or kind in ("retired", "caught_up")
        self.waiting = bool(self.catching_up)
        if kind != "refused":
            for watcher in self.watchers:
                watcher(fact)
        return fact
