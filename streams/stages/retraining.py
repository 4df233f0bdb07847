"""Retraining: a fresh copy of a declared model learns the training log, and then takes part like any other.

While it catches up it is a line in the registry and a draft in its worker, and no state of the task. The worker that
folds it asks for its adoption by a command, which is journalled as any other: at the batch that takes the command in,
the task makes the model the fold of exactly the examples before that batch. So whoever replays has the same model at
the same example, by reading the same log, however far a draft had come.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from hashlib import blake2b
from itertools import islice
from typing import Any, NamedTuple, Protocol

from headrace.schemas.published import number_of
from headrace.schemas.records import Command
from headrace.schemas.wire import BadRecord
from headrace.streams.errors import Lost
from headrace.streams.pipeline import Pipeline
from headrace.streams.stages.context import Context
from headrace.streams.stages.decisions import Decisions

__all__ = [
    "Draft",
    "History",
    "Logged",
    "Schedule",
    "adoptions",
    "drafted",
    "fold",
    "folded",
    "following",
    "grown",
    "logged",
    "numbered",
]

_PART = 1_000
"""Examples that are learned in one step of a recovery."""

_BEHIND = "behind"
"""What an example has besides its fields: the offset behind it, where its topic tells one."""


class Draft(NamedTuple):
    """A model that has come so far: it, the running number of the last example, and how many were left out.

    `place` is the offset behind that example: whoever goes on from there finds what whoever comes along finds.
    """

    model: Any
    n: int
    skipped: int
    place: int = 0


class History(Protocol):
    """The training log of a shard, for who runs a task."""

    def examples(self, after: int, place: int = 0) -> Iterator[Mapping[str, Any]]:
        """All examples that are there, from the one after this running number on, and from this offset on."""

    def draft(self, model: str) -> Draft | None:
        """How far somebody has come already."""

    def keep(self, model: str, draft: Draft) -> None:
        """So far it is now."""


class Logged:
    """The training log as its topic has it; `settle` is called before it is read."""

    def __init__(
        self,
        new_reader: Callable[[], Any],
        topic: str,
        shard: int,
        decode: Callable[[bytes], Mapping[str, Any]],
        settle: Callable[[], None] = lambda: None,
        drafts: dict[tuple[int, str], Draft] | None = None,
    ) -> None:
        self._new_reader, self._topic, self._shard = new_reader, topic, shard
        self._decode, self._settle, self._drafts = decode, settle, {} if drafts is None else drafts

    def examples(self, after: int, place: int = 0) -> Iterator[Mapping[str, Any]]:
        """All committed examples from the one after `after` on: example n lies at offset n - 1 or later."""
        self._settle()
        with contextlib.closing(self._new_reader()) as reader:
            low, end = reader.watermarks(self._topic, self._shard)  # markers of what is committed may still be to come
            start = max(low, after, place)
            for record in reader.read(self._topic, self._shard, start, end) if start < end else ():
                example = numbered(self._decode, record.value, record.offset)
                if example is not None and example["n"] > after:
                    yield {**example, _BEHIND: record.offset + 1}

    def draft(self, model: str) -> Draft | None:
        """What a worker has folded so far, handed over: it is nobody else's from here on."""
        return self._drafts.pop((self._shard, model), None)

    def keep(self, model: str, draft: Draft) -> None:
        """What was folded so far, until it is asked for."""
        self._drafts[self._shard, model] = draft


def numbered(
    decode: Callable[[bytes], Mapping[str, Any]], value: bytes | None, offset: int
) -> Mapping[str, Any] | None:
    """An example; only its running number where it has the features of a declaration before; None of what is none."""
    try:
        example = decode(value or b"")
    except BadRecord:
        number = number_of(value)
        example = {} if number is None else {"n": number}
    return example if 0 < example.get("n", 0) <= offset + 1 else None


def following(examples: Iterable[Mapping[str, Any]], after: int, last_n: int) -> Iterator[Mapping[str, Any]]:
    """The examples that follow number `after`, up to `last_n`, each the next one; others are not ours and passed over.

    Raises `Lost` at the end where the next one did not come, but later ones did.
    """
    ahead = None
    for example in examples if after < last_n else ():
        if example["n"] == after + 1:
            after, ahead = after + 1, None
            yield example
            if after == last_n:
                return
        elif ahead is None and example["n"] > after:
            ahead = example["n"]
    if ahead is not None:
        raise Lost(f"Example {after + 1} of the training log is gone; the next one left is {ahead}.")


def logged(new_reader: Callable[[], Any], topics: Callable[[str], str], shard: int, chain: Any) -> Logged:
    """The training log as a chain that is made again can read it."""
    return Logged(new_reader, topics("examples"), shard, chain.examples_wire.decode)


def grown(declared: Pipeline, retrained: Iterable[tuple[str, str]]) -> Pipeline:
    """The pipeline with these models (name, base) besides those that it declares."""
    more = {name: copy.deepcopy(declared.models.get(base)) for name, base in retrained}
    if not more:
        return declared
    out = copy.copy(declared)
    out.__dict__.pop("model_hashes", None)
    out.models = {**declared.models, **more}
    return out


def fold(
    declared: Pipeline, draft: Draft, examples: Iterable[Mapping[str, Any]], entry: Mapping[str, Any], last_n: int
) -> Draft:
    """Let a draft learn the examples up to `last_n` that its registry entry admits; one that it cannot is passed."""
    model, n, skipped, place = draft
    for example in following(examples, n, last_n):
        n, place = example["n"], example.get(_BEHIND, 0)
        from_ms = entry["from_ms"]
        left_out = n <= entry["from_n"] or "features" not in example
        if left_out or (from_ms is not None and example["label_time_ms"] < from_ms):
            skipped += 1
            continue
        try:
            model.learn_one(example["features"], declared.learned_label(example["label"]))
        except MemoryError:  # the machine's, not the example's
            raise
        except Exception:
            pass
    return Draft(model, n, skipped, place)


def drafted(chain: Any, names: Container[str]) -> Iterator[None]:
    """Fold those of `names` that catch up as far as the chain is, in parts: longer than a worker may stand still.

    Where that cannot be done, the adoption will say so.
    """
    if chain.decisions is None or chain.history is None:
        return
    last_n = chain.context.progress[0]
    for name, entry in chain.decisions.catching_up.items():
        if name not in names or entry["base"] not in chain.declared.models:
            continue
        draft = _begun(chain.declared, chain.history, name, entry, last_n)
        with contextlib.suppress(Lost), contextlib.closing(chain.history.examples(draft.n, draft.place)) as examples:
            ours = following(examples, draft.n, last_n)
            while part := list(islice(ours, _PART)):
                draft = fold(chain.declared, draft, part, entry, last_n)
                yield
            chain.history.keep(name, draft)


def folded(
    declared: Pipeline, history: History | None, name: str, entry: Mapping[str, Any], last_n: int
) -> tuple[Any, int]:
    """The retrained model after example `last_n`, and how many were before its time."""
    if history is None or entry["base"] not in declared.models:
        raise Lost(f"{name} was retrained from {entry['base']}, which nobody can do again here.")
    draft = _begun(declared, history, name, entry, last_n)
    draft = fold(declared, draft, history.examples(draft.n, draft.place), entry, last_n)
    if draft.n != last_n:
        raise Lost(f"The training log ends at example {draft.n}, {name} is to learn up to {last_n}.")
    return draft.model, draft.skipped


def _begun(declared: Pipeline, history: History, name: str, entry: Mapping[str, Any], last_n: int) -> Draft:
    """The draft that somebody has begun, unless it is past example `last_n`; else one that has learned nothing."""
    draft = history.draft(name)
    if draft is None or draft.n > last_n:
        after = min(entry["from_n"], last_n)
        draft = Draft(declared.fresh_models()[entry["base"]], after, after)
    return draft


def adoptions(task: Any) -> list[Command]:
    """The commands by which a worker asks for the adoption of what catches up in this task: always the same ones."""
    decisions = task.chain.decisions
    if decisions is None or not decisions.waiting:
        return []
    return [
        Command(_adoption(name, known["since"]), "adopt", task.shard, "worker", name, why="it has caught up")
        for name, known in decisions.catching_up.items()
        if decisions.hopeless(name) is None
    ]


def _adoption(name: str, since: int) -> str:
    """A command's id has a hundred characters at most: a long name is in it as a hash."""
    told = f"adopt-{name}-{since}"
    return told if len(told) <= 100 else f"adopt-{blake2b(name.encode(), digest_size=12).hexdigest()}-{since}"


class Schedule:
    """Declared retraining: `due` is called with every example, after the models have learned it."""

    def __init__(self, context: Context, decisions: Decisions) -> None:
        self.context, self.decisions = context, decisions
        self._due: dict[str, tuple[float, float]] = {}
        for declared in context.pipeline.retrain:
            self._plan(declared)

    def due(self, n: int, stream_ms: int, at: Callable[[], dict[str, int]]) -> None:
        """Retrain what is due at this example."""
        if self.decisions.registry["began"] is None:
            self.decisions.registry["began"] = stream_ms
            for declared in self.context.pipeline.retrain:
                self._plan(declared)
        for declared in self.context.pipeline.retrain:
            due_n, due_ms = self._due[declared.model]
            if n >= due_n or stream_ms >= due_ms:
                self.decisions.retrain(declared.model, declared.last, at())
                self._plan(declared)

    def _plan(self, declared: Any) -> None:
        never = float("inf")
        _, n, time_ms = self.decisions.registry["schedules"].get(declared.model, (0, 0, None))
        since_ms = self.decisions.registry["began"] if time_ms is None else time_ms
        due_n = never if declared.examples is None else n + declared.examples
        due_ms = never if declared.every_ms is None or since_ms is None else since_ms + declared.every_ms
        self._due[declared.model] = due_n, due_ms
