"""The back of a chain: predict, join labels to predictions, evaluate, train."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.processors.base import Rejected, described
from headrace.processors.baselines import BASELINES, Baselines
from headrace.processors.compiled import Compiled, compile_model
from headrace.processors.evaluate import Evaluate
from headrace.processors.join import Early, Join
from headrace.processors.predict import NOTHING, UNASKED, Predict, Served
from headrace.processors.split import chooses, chooses_id
from headrace.schemas.published import ExamplesWire
from headrace.schemas.records import Fact, Input, version_of
from headrace.streams.stages.context import Context, Pending
from headrace.streams.stages.decisions import Decisions
from headrace.streams.stages.gating import Gating
from headrace.streams.stages.outputs import evaluated, learned, predicted, shadowed
from headrace.streams.stages.retraining import Schedule

__all__ = ["Back"]


class Back:
    """Predictions out, labels in. `ask`, `on_label` and `learn` are the hot path, bound to their stores.

    Parameters
    ----------
    context, wire
        The chain's surroundings, and how examples are written.
    decisions
        Who serves; `ask` and `learn` follow each decision at once.
    outcome
        Takes an outcome into the windows of the front, where there is one.
    columns_of
        The columns that predictions carry, of what `ask` is given as event.
    see_features, see_prediction, see_error
        What the drift stage watches, where it is part of the chain.
    gating
        What compares the models, where a gate is declared.
    schedule
        What retrains them, where that is declared.
    """

    def __init__(
        self,
        context: Context,
        decisions: Decisions,
        join: Join,
        evaluate: Evaluate,
        wire: ExamplesWire,
        outcome: Callable[..., None] | None,
        columns_of: Callable[[Any], dict[str, Any]],
        see_features: Callable[..., None] | None,
        see_prediction: Callable[..., None] | None,
        see_error: Callable[..., None] | None,
        gating: Gating | None,
        schedule: Schedule | None,
    ) -> None:
        self.context, self.decisions, self.wire, self.evaluate = context, decisions, wire, evaluate
        self.outcome, self.columns_of = outcome, columns_of
        self.see_features, self.see_prediction, self.see_error = see_features, see_prediction, see_error
        self.gating, self.schedule = gating, schedule
        p = context.pipeline
        self.models = tuple(p.models)
        self.baselines = Baselines(p.task)
        self.compiled = [self._compile(context.states["models"][name]) for name in self.models]
        self.wait_for, self.answer_to = join.compile(context.states["join"])
        self._unused: list[dict[str, Any]] = []
        self._answers: list[Callable[..., Any]] = []
        self._learners: list[Callable[..., None]] = []
        self._shadowed = context.outbox.line(shadowed(p.task, context.shard, columns_of))
        self.learn = self._learner()
        self.on_label = self._joiner()
        self.ask, self._serve = self._asker()
        decisions.watchers.append(self._decided)
        self._turn()

    def _compile(self, store: Any) -> Compiled:
        """A model as it is asked and taught."""
        p = self.context.pipeline
        numbers = [field["name"] for field in p.featurize.fields() if {"string", "boolean"}.isdisjoint(_types(field))]
        whole = numbers if len(numbers) == len(p.features) else None
        compiled = compile_model(p.task, store.value, whole, p.plans)
        store.sync = compiled.sync
        return compiled

    # -- who serves ----------------------------------------------------------------------------------------------

    def _decided(self, fact: Fact) -> None:
        """A decision took effect."""
        if fact.kind != "proposed":
            self._turn()

    def _turn(self) -> None:
        """Ask, teach, serve and score as the registry says now."""
        status = {name: self.decisions.status(name) for name in self.models}
        living = [status[name] != "retired" for name in self.models]
        pairs = list(zip(self.compiled, living, strict=True))
        self._answers[:] = [model.predict if lives else _unasked for model, lives in pairs]
        self._learners[:] = [model.learn if lives else _silent for model, lives in pairs]
        self.champion = self.models.index(self.decisions.champion)
        self.roles = {name: "challenger" for name in self.models if status[name] != "retired"}
        self.roles |= {self.models[self.champion]: "champion"} | dict.fromkeys(BASELINES, "baseline")
        share = self.context.pipeline.shadow if sum(living) > 1 else 0.0
        chosen = chooses_id(share) if share else None
        self._serve(self.champion, self._canary(status), chosen, self._cast(status))

    def _since(self, model: str) -> int:
        """How many examples there were before this model began."""
        since: dict[str, int] = self.context.states["chain"]["since"].value
        return since.get(model, 0)

    def _canary(self, status: dict[str, str]) -> Callable[..., tuple[Served, str] | None] | None:
        """What serves a share of the keys, if anything does: its answer and version, or None where it has no answer."""
        name = next((name for name in self.models if status[name] == "canary"), None)
        if name is None:
            return None
        shard, serve, count = self.context.shard, Predict(self.context.pipeline.task).process, self.context.count
        rank, since = self.models.index(name), self._since(name)
        chosen = chooses(float(self.decisions.registry["canary"][1]), name)

        def canary(key: bytes | None, answers: tuple[Any, ...], learned: int) -> tuple[Served, str] | None:
            if key is None or learned <= since or not chosen(key):
                return None
            served = serve(answers[rank])
            if served == NOTHING:
                count("canary_refused")
                return None
            return served, version_of(name, shard, learned)

        return canary

    def _cast(self, status: dict[str, str]) -> Callable[..., None]:
        """What notes the answers of those who do not serve an event."""
        living = [(rank, name) for rank, name in enumerate(self.models) if status[name] != "retired"]
        others = [(rank, name, self._since(name)) for rank, name in living]
        mark, (line, note) = self.context.outbox.mark, self._shadowed
        live_from = self.context.pipeline.live_from_ms

        def cast(row: tuple[Any, ...], answers: tuple[Any, ...], model: str) -> None:
            if live_from is None or row[2] >= live_from:
                server, learned = model.partition("/")[0], row[3]
                for rank, name, since in others:
                    if name != server and learned > since:
                        mark(line)
                        note((*row, name, status[name], answers[rank]))

        return cast

    # -- predict -------------------------------------------------------------------------------------------------

    def _asker(self) -> tuple[Callable[..., None], Callable[..., None]]:
        """The function that predicts, and the one that tells it whom to serve."""
        context, p = self.context, self.context.pipeline
        counts, progress = context.counts, context.progress
        champion, prefix, since = 0, "", 0
        canary: Callable[..., tuple[Served, str] | None] | None = None
        chosen: Callable[[Any], bool] | None = None
        cast: Callable[..., None] = _silent
        answers_of = self._answers
        serve = Predict(p.task).process
        live_from = p.live_from_ms
        see_features, see_prediction = self.see_features, self.see_prediction
        mark = context.outbox.mark
        published, publish = context.outbox.line(predicted(self.columns_of))
        baselines = self.baselines.compile(context.states["baselines"])[0]
        wait_for, labelled, refused = self.wait_for, self._labelled, self._unused.append
        segments_of = None if self.gating is None else self.gating.values

        def follow(rank: int, tried: Any, share: Any, shadow: Callable[..., None]) -> None:
            nonlocal champion, prefix, since, canary, chosen, cast
            champion, prefix, canary = rank, f"{self.models[rank]}/{context.shard}@", tried
            since, chosen, cast = self._since(self.models[rank]), share, shadow

        def ask(event_id: Any, item: Input, key: Any, keys: tuple[Any, ...], x: dict[str, Any], event: Any) -> None:
            """Predict, publish the champion's answer, and wait for the label. `event` has what predictions carry."""
            time_ms, partition, offset = item[0], item[1], item[2]
            learned, until_ms = progress
            trained = learned > since
            try:
                try:
                    answers = tuple([answer(x) for answer in answers_of])
                except Exception:
                    answers = self._ask_each(answers_of, x, trained=trained)
                served = serve(answers[champion]) if trained else NOTHING
            except Rejected as rejected:
                role, origin = ("features", context.origin) if context.origin else ("events", item)
                context.dead("predict", role, rejected.reason, rejected.detail, origin)
                context.count("refused_pending")
                refused(x)
                entry: tuple[Any, ...] = (time_ms, offset, partition, key, keys, None, (), None, None, None)
            else:
                counts["predictions"] += 1
                if segments_of is not None:
                    context.values = segments_of(x, event)
                model = prefix + str(learned)
                if canary is not None and (found := canary(key, answers, learned)) is not None:
                    (served, model), trained = found, True
                if chosen is not None and chosen(event_id):
                    cast((key, event_id, time_ms, learned, until_ms, partition, offset, event), answers, model)
                if live_from is None or time_ms >= live_from:
                    mark(published)
                    known_ms = until_ms if trained else None
                    publish((key, event_id, time_ms, served, trained, model, known_ms, partition, offset, event))
                    if see_prediction is not None:
                        see_prediction(served, time_ms, partition, offset, event_id)
                else:
                    context.count("history")
                if see_features is not None:
                    see_features(x, time_ms, partition, offset, event_id)
                answers += baselines()
                entry = (time_ms, offset, partition, key, keys, x, answers, served[0], served[1], model)
                if segments_of is not None:
                    entry += (context.values,)
            early = wait_for(event_id, entry)
            if early is not None:
                labelled(event_id, entry, early)

        return ask, follow

    def _ask_each(self, answers_of: list[Callable[..., Any]], x: dict[str, Any], *, trained: bool) -> tuple[Any, ...]:
        """All answers when a model fails: its own is None; a champion that is `trained` refuses the event instead."""
        answers: list[Any] = []
        for rank, answer in enumerate(answers_of):
            try:
                answers.append(answer(x))
            except Exception as error:
                if rank == self.champion and trained:
                    raise Rejected("predict_error", described(error)) from error
                self.context.count(f"model_errors.{self.models[rank]}")
                answers.append(None)
        return tuple(answers)

    # -- join ----------------------------------------------------------------------------------------------------

    def _joiner(self) -> Callable[[Input, Any, Early], None]:
        context, counts, answer_to, learn = self.context, self.context.counts, self.answer_to, self.learn

        def on_label(item: Input, event_id: Any, label: Early) -> None:
            """A readable label came; stream time has been advanced to it."""
            outcome, entry = answer_to(event_id, label)
            if entry is None:
                context.count(f"labels.{outcome}")
                if outcome == "late":
                    context.dead("join", "labels", "late_label", f"event {event_id!r} had expired", item)
            elif entry[5] is None:
                self._labelled(event_id, entry, label)
            else:
                counts["labelled"] += 1
                learn(event_id, entry, label[3], label[0], label)

        return on_label

    def expired(self, event_id: Any, entry: tuple[Any, ...], stream_ms: int) -> None:
        """No label came within the time to live."""
        if entry[5] is None:
            self.context.count("refused_pending", -1)
        else:
            self.context.count("expired")
            self._unused.append(entry[5])
        y = self.context.pipeline.on_expiry
        if y is not None:
            self.learn(event_id, entry, y, stream_ms, None)

    def _labelled(self, event_id: Any, entry: tuple[Any, ...], label: Early) -> None:
        if entry[5] is None:
            self.context.count("refused_pending", -1)
            self.context.count("labels.refused")
        else:
            self.context.counts["labelled"] += 1
        self.learn(event_id, entry, label.y, label.time_ms, label)

    # -- evaluate and train --------------------------------------------------------------------------------------

    def _learner(self) -> Callable[..., None]:
        context = self.context
        states, progress = context.states, context.progress
        outcome, see_error, mark = self.outcome, self.see_error, context.outbox.mark
        published, publish = context.outbox.line(learned(self.wire, context.packed))
        scored, score = context.outbox.line(self._scored, aside=True)
        update_baselines = self.baselines.compile(states["baselines"])[1]
        learners = self._learners
        publishes = "examples" in context.pipeline.publish
        gated = None if self.gating is None else self.gating.example
        segmented = self.gating is not None and self.gating.values is not None
        due = None if self.schedule is None else self.schedule.due

        def learn(event_id: Any, entry: tuple[Any, ...], y: Any, time_ms: int, label: Early | None) -> None:
            """An outcome: windows over outcomes, the example, evaluation, drift, learning, the gate; in this order."""
            whole = entry if gated is None else entry[:10]
            asked_ms, offset, partition, key, keys, x, answers, prediction, probability, model = whole
            if keys and outcome is not None:
                outcome(keys, y, time_ms)
            if x is None:
                return
            n = progress[0] = progress[0] + 1
            if progress[1] is None or time_ms > progress[1]:
                progress[1] = time_ms
            if publishes:
                mark(published)
                publish((key, n, event_id, asked_ms, time_ms, partition, offset, model, y, prediction, probability, x))
            mark(scored)
            score((y, answers, n, time_ms))
            if see_error is not None:
                if segmented:
                    context.values = entry[10] if len(entry) > 10 else ()
                see_error(prediction, y, probability, asked_ms, time_ms, partition, offset, event_id)
            update_baselines(y)
            for rank, learn_one in enumerate(learners):
                try:
                    learn_one(x, y)
                except Exception as error:
                    self._failed(rank, error, Pending(*entry), n, label)
            if gated is not None:
                gated(y, entry, n, time_ms, label)
            if due is not None:
                due(n, context.clock[0], lambda: {"events": offset} | ({} if label is None else {"labels": label[1]}))

        return learn

    def _scored(self, rows: list[Any]) -> list[Any]:
        """Rows to evaluations, of those that fill a window."""
        found = self.evaluate.process_many(rows, self.context.states["evaluate"], self.roles)
        return [list(map(evaluated, each)) if each else () for each in found]

    def forget(self) -> None:
        """Drop what was kept for examples that will not be."""
        for x in self._unused:
            self.context.packed.pop(id(x), None)
        self._unused.clear()

    def _failed(self, rank: int, error: Exception, entry: Pending, n: int, label: Early | None) -> None:
        """A model raised while learning: a dead letter of the label; the other models go on."""
        item = label or Early(entry.time_ms, entry.offset, entry.partition, None, entry.key, None)
        detail = f"{self.models[rank]} at example {n}: {described(error)}"
        self.context.dead("train", "labels" if label else "events", "train_error", detail, item)


def _silent(*_: Any) -> None:
    """What a retired model learns."""


def _unasked(*_: Any) -> tuple[()]:
    """What it answers."""
    return UNASKED


def _types(field: dict[str, Any]) -> tuple[str, ...]:
    """The types that a feature may have, null among them."""
    return tuple(field["type"]) if isinstance(field["type"], list) else (field["type"],)
