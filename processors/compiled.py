"""Compiled models: the same answers and the same state as River's own, to the last bit, with fewer steps in between.

Two plans besides River's own way (``model``), each only for models that match exactly.

``steps``   a `Pipeline` of plain transformers and an estimator: River's own methods, called one after the other.
``kernel``  `StandardScaler() | LogisticRegression(...)` with SGD at a constant rate, log loss and no penalty: River's
            formulas written out for the declared features, operation for operation. What it has learned is held beside
            the model and written back by `sync`, before anybody looks at the model: a checkpoint, a hash, a fallback.
            `HoeffdingTreeClassifier` and `HoeffdingAdaptiveTreeClassifier`, alone or as the last step
            (`hoeffding_tree.py`, `adaptive_tree.py`).

A row that does not fit a kernel, as one in which a feature is missing or is no number, goes to River itself. Rows have
their features in the declared order, as they are computed and read: River adds up in the order of the row. A model with
parts that are not River's is asked and taught with a copy of each row, as it might change it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from river import optim
from river.base import AnomalyFilter, Transformer
from river.compose import FuncTransformer, Pipeline, Renamer, TransformerUnion
from river.linear_model import LogisticRegression
from river.preprocessing import StandardScaler

from headrace.processors import adaptive_tree, hoeffding_tree
from headrace.processors.predict import answerer, validated
from headrace.processors.slots import define, indent

__all__ = ["PLANS", "Compiled", "compile_model"]

PLANS = ("kernel", "steps", "model")

Row = Mapping[str, Any]


class Compiled(NamedTuple):
    """How a model is asked and taught; `predict` answers in Python's own types, as `validated` does."""

    plan: str
    predict: Callable[[Row], Any]
    learn: Callable[[Row, Any], None]
    sync: Callable[[], None]


def compile_model(task: str, model: Any, numbers: Sequence[str] | None, plans: Sequence[str] = PLANS) -> Compiled:
    """The fastest of `plans` that fits `model`; `numbers` are its features in order if all of them are numbers."""
    if not set(plans) <= set(PLANS):
        raise ValueError(f"plans must be of {', '.join(PLANS)}; got {plans!r}")
    if _is_foreign(model):
        return _guarded(task, model)
    kernels = "kernel" in plans
    compiled = _model(task, model, kernels)
    if "steps" in plans and _has_steps(model):
        compiled = _steps(task, model, kernels)
    if kernels and task == "binary" and numbers and _fits_kernel(model):
        compiled = _Kernel(model, tuple(numbers), compiled).compiled
    return compiled


def _model(task: str, model: Any, kernels: bool) -> Compiled:
    plan, answer, learn = _estimator("model", task, model, kernels)
    check = validated(task)
    return Compiled(plan, lambda x: check(answer(x)), learn, _nothing)


def _estimator(plan: str, task: str, model: Any, kernels: bool) -> tuple[str, Callable[..., Any], Callable[..., None]]:
    """How a model or the last step of one is asked and taught: by `plan`, unless there is a kernel for it."""
    for kernel in (hoeffding_tree, adaptive_tree):
        if kernels and task != "regression" and kernel.fits(model):
            return "kernel", *kernel.compile_tree(model)
    return plan, answerer(task, model), model.learn_one


def _guarded(task: str, model: Any) -> Compiled:
    """A model with parts that are not River's might change what it is given: it gets a copy."""
    answer, learn, check = answerer(task, model), model.learn_one, validated(task)
    return Compiled("model", lambda x: check(answer(dict(x))), lambda x, y: learn(dict(x), y), _nothing)


def _is_foreign(part: Any, depth: int = 0) -> bool:
    """Whether the model, a step, or a model among its parameters runs code of the author's, or renames in place."""
    if not type(part).__module__.startswith("river.") or isinstance(part, FuncTransformer | Renamer):
        return True
    steps = getattr(part, "steps", None) or getattr(part, "transformers", None)
    parts = list(steps.values()) if isinstance(steps, dict) else []
    if not parts and callable(getattr(part, "_get_params", None)):
        held = [getattr(part, name, None) for name in part._get_params()]
        inner = [one for value in held for one in (value if isinstance(value, list | tuple) else (value,))]
        parts = [one for one in inner if callable(getattr(one, "learn_one", None))]
    return depth < 8 and any(_is_foreign(inner, depth + 1) for inner in parts)


def _nothing() -> None:
    """There is nothing to write back."""


# -- steps -----------------------------------------------------------------------------------------------------------


def _has_steps(model: Any) -> bool:
    if type(model) is not Pipeline or len(model.steps) < 2:
        return False
    *first, last = model.steps.values()
    plainly = all(
        isinstance(step, Transformer) and not isinstance(step, TransformerUnion | AnomalyFilter) for step in first
    )
    return plainly and not isinstance(last, Transformer | AnomalyFilter | Pipeline) and bool(last._supervised)


def _steps(task: str, model: Any, kernels: bool) -> Compiled:
    """Source for as many steps as there are, because a loop over them would cost what it saves."""
    *first, last = model.steps.values()
    plan, answer, teach = _estimator("steps", task, last, kernels)
    predict, learn = [], []
    for i, step in enumerate(first):
        predict.append(f"x = transform{i}(x)")
        learn += [f"y{i} = transform{i}(x)", f"learn{i}(x, y)"] if step._supervised else [f"learn{i}(x)"]
        learn.append(f"x = y{i}" if step._supervised else f"x = transform{i}(x)")
    source = f"""
def make({", ".join(f"transform{i}, learn{i}" for i in range(len(first)))}, answer, teach, check):
    def predict(x):
{indent(chr(10).join(predict), 2)}
        return check(answer(x))
    def learn(x, y):
{indent(chr(10).join(learn), 2)}
        teach(x, y)
    return predict, learn
"""
    methods = [method for step in first for method in (step.transform_one, step.learn_one)]
    predict_by, learn_by = define(source, "make")(*methods, answer, teach, validated(task))
    return Compiled(plan, predict_by, learn_by, _nothing)


# -- kernel ----------------------------------------------------------------------------------------------------------


def _fits_kernel(model: Any) -> bool:
    if type(model) is not Pipeline or [type(step) for step in model.steps.values()] != [
        StandardScaler,
        LogisticRegression,
    ]:
        return False
    scaler, logistic = model.steps.values()
    loss, optimizer = logistic.loss, logistic.optimizer
    rates = (getattr(optimizer, "lr", None), logistic.intercept_lr)
    return (
        scaler.with_std
        and scaler.window_size is None
        and type(optimizer) is optim.SGD
        and all(type(rate) is optim.schedulers.Constant for rate in rates)
        and type(loss) is optim.losses.Log
        and all(type(weight) in (int, float) and weight > 0 for weight in (loss.weight_pos, loss.weight_neg))
        and logistic.clip_gradient >= max(loss.weight_pos, loss.weight_neg)
        and logistic.l1 == 0
        and logistic.l2 == 0
        and type(logistic.initializer) is optim.initializers.Zeros
        and type(logistic.intercept) in (int, float)
    )


class _Kernel:
    """The kernel of one model: River's until every feature has been learned once, and for rows that do not fit."""

    def __init__(self, model: Any, names: tuple[str, ...], river: Compiled) -> None:
        self.scaler, self.logistic = model.steps.values()
        self.names, self.river = names, river
        loss = self.logistic.loss
        rates = (self.logistic.optimizer.lr.learning_rate, self.logistic.intercept_lr.learning_rate)
        made = define(_source(len(names)), "make")(
            names,
            math.exp,
            validated("binary"),
            self._slow_predict,
            self._slow_learn,
            *rates,
            loss.weight_pos,
            loss.weight_neg,
        )
        predict, learn, self._load, self._dump = made
        self._refused = 0
        self.compiled = Compiled("kernel", predict, learn, self.sync)

    def sync(self) -> None:
        """Write what was learned into the model."""
        learned = self._dump()
        if learned is None:
            return
        n, means, variances, weights, intercept, iterations = learned
        scaler, logistic = self.scaler, self.logistic
        for i, name in enumerate(self.names):
            scaler.counts[name] = n
            scaler.means[name] = means[i]
            scaler.vars[name] = variances[i]
            logistic._weights[name] = weights[i]
        logistic.intercept = intercept
        logistic.optimizer.n_iterations = iterations

    def _slow_predict(self, x: Row) -> Any:
        if self._take_over(x):
            return self.compiled.predict(x)
        self.sync()
        return self.river.predict(x)

    def _slow_learn(self, x: Row, y: Any) -> None:
        if self._take_over(x):
            self.compiled.learn(x, y)
            return
        self.sync()
        self._load(None)
        self._refused += 1
        self.river.learn(x, y)

    def _take_over(self, x: Row) -> bool:
        """Let the kernel begin where the model is, if `x` fits it and every feature was learned equally often."""
        scaler, logistic, names = self.scaler, self.logistic, self.names
        if self._refused * 10 > 100 + logistic.optimizer.n_iterations:
            return False  # to and fro would cost more than it saves
        fits = len(x) == len(names) and all(type(x.get(name)) in (int, float, bool) for name in names)
        if not fits or self._dump() is not None:
            return False
        counts = {scaler.counts.get(name, 0) for name in names}
        weights = logistic.weights
        if len(counts) != 1 or counts == {0} or set(weights) != set(names) or set(scaler.counts) != set(names):
            return False
        means, variances = [scaler.means[name] for name in names], [scaler.vars[name] for name in names]
        if not all(type(value) is float for value in (*means, *variances)):
            return False
        state = (counts.pop(), means, variances, [weights[name] for name in names])
        self._load((*state, logistic.intercept, logistic.optimizer.n_iterations))
        return True


def _source(size: int) -> str:
    """River's `StandardScaler`, `LogisticRegression`, `Log` and `SGD` for `size` features.

    The names: n rows learned; of each feature, m mean, v variance, s its root, w weight, x value, z scaled value. What
    a row's values add up to shows at once whether all of them are plain numbers.
    """
    each = range(size)

    def listed(letter: str) -> str:
        return ", ".join(f"{letter}{i}" for i in each)

    read = [*(f"x{i} = x[N{i}]" for i in each), f"kind = ({' + '.join(f'x{i}' for i in each)}).__class__"]
    dot = " + ".join(["0.0", *(f"w{i} * z{i}" for i in each)])
    scale = [f"z{i} = (x{i} - m{i}) / s{i} if v{i} else 0.0" for i in each]
    learned = [line for i in each for line in _scaler(i)]
    steps = [f"w{i} -= rate * (z{i} * g)" for i in each]
    state = f"n, {listed('m')}, {listed('v')}, {listed('s')}, {listed('w')}, bias, iterations"
    return f"""
def make(names, exp, check, slow_predict, slow_learn, rate, bias_rate, weight_pos, weight_neg):
    {listed("N")}, = names
    n = bias = iterations = 0
    {" = ".join(f"{letter}{i}" for letter in "mvsw" for i in each)} = 0.0
    def predict(x):
        if not n or len(x) != {size}:
            return slow_predict(x)
        try:
{indent(chr(10).join(read), 3)}
        except (KeyError, TypeError, OverflowError):
            return slow_predict(x)
        if kind is not float and kind is not int:
            return slow_predict(x)
{indent(chr(10).join(scale), 2)}
        raw = {dot} + bias
        if -30 <= raw <= 30:
            p = 1 / (1 + exp(-raw))
            return {{False: 1.0 - p, True: p}}
        p = 0 if raw < -30 else 1 if raw > 30 else raw
        return check({{False: 1.0 - p, True: p}})
    def learn(x, y):
        nonlocal {state}
        if not n or len(x) != {size}:
            return slow_learn(x, y)
        try:
{indent(chr(10).join(read), 3)}
        except (KeyError, TypeError, OverflowError):
            return slow_learn(x, y)
        if kind is not float and kind is not int:
            return slow_learn(x, y)
        n += 1
{indent(chr(10).join(learned), 2)}
        raw = {dot} + bias
        if y == 0:
            y, weight = -1, weight_neg
        else:
            y, weight = int(y), weight_pos
        at = raw * y
        if at > 18.0:
            g = float(weight * exp(-at) * -y)
        elif at < -18.0:
            g = float(weight * -y)
        else:
            g = float(weight * -y / (exp(at) + 1.0))
        bias -= bias_rate * g
{indent(chr(10).join(steps), 2)}
        iterations += 1
    def load(state):
        nonlocal {state}
        if state is None:
            n = 0
            return
        n, [{listed("m")}], [{listed("v")}], [{listed("w")}], bias, iterations = state
{indent(chr(10).join(f"s{i} = v{i}**0.5" for i in each), 2)}
    def dump():
        return (n, [{listed("m")}], [{listed("v")}], [{listed("w")}], bias, iterations) if n else None
    return predict, learn, load, dump
"""


def _scaler(i: int) -> list[str]:
    """Learn feature i, then scale it."""
    return [
        f"d = x{i} - m{i}",
        f"m{i} += d / n",
        f"e = x{i} - m{i}",
        f"v{i} += (d * e - v{i}) / n",
        f"s{i} = v{i}**0.5",
        f"z{i} = e / s{i} if v{i} else 0.0",
    ]
