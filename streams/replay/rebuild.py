"""Rebuild: a version made again from the log, and compared with its snapshot: state hash, and predictions to the bit.

The first way is the fold of `P.examples`, which is kept for ever: a fresh model learns every example up to n. What a
few of River's models do when they are asked (draw from their generator, note a feature they have not seen) is not in
the examples; such a state only comes out of the second way, the replay of everything (`recompute`), as far back as the
inputs are kept. The replay also tells whether the examples themselves are what the log makes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import msgspec

from headrace.processors.compiled import Compiled, compile_model
from headrace.schemas.records import version_of
from headrace.streams.errors import HeadraceError, Lost
from headrace.streams.identity.deepstack import on_deep_stack
from headrace.streams.identity.hashing import state_hash
from headrace.streams.identity.pickling import dumps, loads
from headrace.streams.models.snapshots import Header, Sealed, SnapshotError
from headrace.streams.models.versions import Published
from headrace.streams.pipeline import Pipeline
from headrace.streams.replay.recompute import recomputations
from headrace.streams.stages.chain import Chain
from headrace.streams.stages.retraining import following, numbered
from headrace.streams.task import Task
from headrace.streams.topology import group_of

__all__ = ["SAMPLE", "Rebuilt", "Wanted", "examples_of", "rebuild"]

SAMPLE = 1_000
"""Following examples on which predictions are compared."""

_Example = tuple[int, dict[str, Any] | None, Any, dict[str, Any]]


class Rebuilt(msgspec.Struct):
    """A version rebuilt, beside its snapshot.

    `way`: examples or replay. `state` is the hash of what was rebuilt ("": it was not reached), `published` that of the
    snapshot (None: there is none, or `refused` says why it is not used). `asked` predictions were compared, `different`
    of them differed. `examples_differ` counts published examples that the replay did not make. `same` is None when
    there is nothing to compare.
    """

    version: str
    way: str
    examples: int
    state: str
    published: str | None = None
    refused: str | None = None
    asked: int = 0
    different: int = 0
    examples_differ: int | None = None
    note: str = ""

    @property
    def same(self) -> bool | None:
        """Whether the version is what the log makes."""
        if self.refused is not None or self.examples_differ:
            return False
        if self.published is None or not self.state:
            return None
        return self.state == self.published and not self.different


@dataclass(slots=True)
class Wanted:
    """A version to be rebuilt: where it begins, and its snapshot, opened, where there is one that can be used.

    `base` is the declared model that it was retrained from; "": it is declared itself.
    """

    name: str
    shard: int
    n: int
    since: int = 0
    base: str = ""
    model: Any = None
    header: Header | None = None
    refused: str | None = None

    @classmethod
    def of(cls, one: Published, codec: Sealed) -> Wanted:
        """A published version; one that is refused is rebuilt all the same, and says why."""
        try:
            model, header = one.open(codec)
        except SnapshotError as error:
            return cls(one.name, one.shard, one.n, refused=str(error))
        return cls(one.name, one.shard, one.n, header.since, header.at.get("base", ""), model, header)

    @property
    def version(self) -> str:
        """name/shard@n."""
        return version_of(self.name, self.shard, self.n)

    @property
    def published(self) -> str | None:
        """The state of its snapshot, where there is one that can be used."""
        return None if self.header is None else self.header.state


def rebuild(
    pipeline: Pipeline,
    wanted: Iterable[Wanted],
    new_reader: Callable[[], Any],
    topics: Callable[[str], str],
    *,
    codec: Sealed,
    replay: bool = False,
    sample: int = SAMPLE,
    keep: Callable[[Wanted, Any], None] = lambda one, model: None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Rebuilt]:
    """Rebuild these versions, each model's in one fold of its examples.

    Those that differ then are rebuilt once more by replay, and so are those whose snapshot is refused: with nothing to
    compare it with, the fold does not show whether the model changes when it is asked. `replay` takes that way at once.
    `keep` is given each model that was rebuilt, that of the replay last.
    """
    chosen = sorted(wanted, key=lambda one: (one.shard, one.name, one.n))
    found: dict[str, Rebuilt] = {}
    folds: dict[tuple[int, str, int], list[Wanted]] = {}
    for one in chosen if not replay else ():
        folds.setdefault((one.shard, one.name, one.since), []).append(one)
    for (shard, name, _), versions in folds.items():
        with contextlib.closing(new_reader()) as reader:
            fold = _Fold(pipeline, name, versions, codec, sample, keep)
            fold.run(examples_of(pipeline, shard, reader, topics), progress)
            found |= fold.found
    again = [one for one in chosen if replay or found[one.version].same is False]
    if again:
        _replay(pipeline, again, found, new_reader, topics, codec, keep, progress)
    return [found[one.version] for one in chosen]


def examples_of(pipeline: Pipeline, shard: int, reader: Any, topics: Callable[[str], str]) -> Iterator[_Example]:
    """The training log of a shard as (n, features, label, whole record); raises `Lost` where it is not whole.

    An example with the features of a declaration before has a number only.
    """
    decode = Chain(pipeline, group_of(), shard, topics=topics).examples_wire.decode
    topic = topics("examples")
    whole = reader.watermarks(topic, shard)[0] == 0
    read = (numbered(decode, record.value, record.offset) for record in reader.read(topic, shard))
    found = (example for example in read if example is not None)
    first = None if whole else next(found, None)
    examples = found if first is None else chain((first,), found)
    for example in following(examples, 0 if first is None else first["n"] - 1, 1 << 62):
        x = example.get("features")
        try:
            label = None if x is None else pipeline.learned_label(example["label"])
        except ValueError as error:
            raise Lost(
                f"{topic}/{shard} example {example['n']}: {error}; its label is of another declaration."
            ) from error
        yield example["n"], x, label, dict(example)


class _Fold:
    """One model's fold over the training log, stopping over at each version that is asked for."""

    def __init__(
        self,
        pipeline: Pipeline,
        name: str,
        versions: list[Wanted],
        codec: Sealed,
        sample: int,
        keep: Callable[[Wanted, Any], None],
    ) -> None:
        self._pipeline, self._name, self._keep = pipeline, name, keep
        self._codec, self._sample = codec, sample
        self._left = list(versions)
        self._asked: list[tuple[Rebuilt, Compiled, Compiled, int]] = []
        self.found: dict[str, Rebuilt] = {}
        models, base = pipeline.fresh_models(), versions[0].base or name
        if base not in models:
            raise Lost(f"{base} is not declared, so {name} cannot be folded from the examples.")
        self._model = models[base]
        self._compiled = self._as_river(self._model)

    def run(self, examples: Iterator[_Example], progress: Callable[[int], None]) -> None:
        """Learn; at each version compare, and go on asking about what follows."""
        since, n = self._left[0].since, 0
        first = True
        for n, x, y, _ in examples:
            if n <= since:
                continue
            if x is None:
                raise Lost(f"Example {n} has the features of another declaration: what learned it cannot be rebuilt.")
            if first and n != since + 1:
                raise Lost(f"The examples begin at {n}: {self._name} cannot be folded from {since + 1} on.")
            first = False
            self._ask(x)
            if not self._left and not self._asked:
                break
            self._learn(x, y)
            self._stop_over(n)
            progress(1)
        if self._left:
            raise Lost(f"The examples end at {n}: {self._left[0].version} cannot be rebuilt from them.")

    def _as_river(self, model: Any) -> Compiled:
        return compile_model(self._pipeline.task, model, None, ("model",))

    def _learn(self, x: dict[str, Any], y: Any) -> None:
        try:
            self._compiled.learn(x, y)
        except MemoryError:
            raise
        except Exception:
            pass  # a dead letter has told it; the model went on as it was left

    def _stop_over(self, n: int) -> None:
        while self._left and self._left[0].n == n:
            one = self._left.pop(0)
            state = state_hash(self._model)
            made = Rebuilt(one.version, "examples", n - one.since, state, refused=one.refused)
            self.found[one.version] = made
            copy = _copy(self._model, self._codec)
            self._keep(one, copy)
            made.published = one.published
            if one.header is not None:
                self._asked.append((made, self._as_river(copy), self._as_river(one.model), self._sample))

    def _ask(self, x: dict[str, Any]) -> None:
        """Ask both models of each version that is still being compared."""
        still = []
        for made, rebuilt, snapshot, left in self._asked:
            made.asked += 1
            made.different += _answer(rebuilt, x) != _answer(snapshot, x)
            if left > 1:
                still.append((made, rebuilt, snapshot, left - 1))
        self._asked = still


def _copy(model: Any, codec: Sealed) -> Any:
    return on_deep_stack(lambda: loads(dumps(model), codec.extra))


def _answer(model: Compiled, x: dict[str, Any]) -> Any:
    try:
        return repr(model.predict(x))
    except Exception as error:
        return type(error)


def _replay(
    pipeline: Pipeline,
    wanted: list[Wanted],
    found: dict[str, Rebuilt],
    new_reader: Callable[[], Any],
    topics: Callable[[str], str],
    codec: Sealed,
    keep: Callable[[Wanted, Any], None],
    progress: Callable[[int], None],
) -> None:
    """Rebuild by the second way; where that way is gone, what the first one found stands."""
    gone = ""
    try:
        for made in recomputations(pipeline, new_reader, topics, codec):
            mine = [one for one in wanted if one.shard == made.task.shard]
            if not made.task.group.back or not mine:
                continue
            differ = 0
            _take(made.task, mine, differ, found, codec, keep)
            for step in made:
                differ += sum(pair.role == "examples" and pair.difference is not None for pair in step.pairs)
                _take(made.task, mine, differ, found, codec, keep)
                progress(len(step.batch))
                if not mine:
                    break
    except HeadraceError as error:
        gone = f"the replay of everything is not possible: {str(error).removesuffix('.')}"
    for one in wanted:
        nothing = Rebuilt(one.version, "replay", 0, "", one.published, one.refused)
        nothing.note = gone or "the replay did not come past it"
        stands = found.setdefault(one.version, nothing)
        if stands.way == "examples":
            stands.note = gone or stands.note


def _take(
    task: Task,
    wanted: list[Wanted],
    differ: int,
    found: dict[str, Rebuilt],
    codec: Sealed,
    keep: Callable[[Wanted, Any], None],
) -> None:
    """Take the models that stand where a wanted version stood."""
    n, models = task.chain.context.progress[0], task.chain.stores.states["models"]
    for one in list(wanted):
        seq = None if one.header is None else one.header.at.get("seq")
        here = n == one.n if seq is None else seq == task.seq
        if not here or one.name not in models:
            continue
        wanted.remove(one)
        model = models[one.name].value
        state, before = state_hash(model), found.get(one.version)
        made = Rebuilt(one.version, "replay", n - one.since, state, refused=one.refused, examples_differ=differ)
        made.published = one.published
        if before is not None and before.state != state and (made.same or made.published is None) and not differ:
            made.note = "what it was asked changed its state, too: the examples alone do not make it"
        found[one.version] = made
        keep(one, _copy(model, codec))
