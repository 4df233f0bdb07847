"""A Hoeffding adaptive tree, asked and taught in River's own nodes: the same bits with fewer steps in between.

River's `HoeffdingAdaptiveTreeClassifier` (Bifet and Gavaldà, 2009) asks the leaf of a row once for every branch above
it, and then twice more, and copies dictionaries in depth to scale two numbers. Here the leaf is asked once. What is
learned stands in River's nodes after every step, so that there is nothing to write back.

This is for leaves that choose between majority and naive Bayes, with Gaussian splitters. Whatever else comes up, as a
row in which something is no number or a branch of another kind, goes to River's own method.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import exp, inf, log, sqrt, tau
from typing import Any

from river.tree import HoeffdingAdaptiveTreeClassifier
from river.tree.nodes.branch import DTBranch
from river.tree.nodes.hatc_nodes import AdaLeafClassifier, AdaNumBinaryBranchClass
from river.tree.splitter import GaussianSplitter
from river.tree.utils import do_naive_bayes_prediction
from river.utils.random import poisson

__all__ = ["compile_tree", "fits_tree"]

_HALF_LOG_TAU = 0.5 * log(tau)

Row = Mapping[str, Any]
Votes = dict[Any, float]


def fits_tree(model: Any) -> bool:
    """Whether `model` is such a tree."""
    return (
        type(model) is HoeffdingAdaptiveTreeClassifier
        and type(model.splitter) is GaussianSplitter
        and model.leaf_prediction == "nba"
        and model.nominal_attributes is None
    )


def compile_tree(tree: Any) -> tuple[Callable[[Row], Votes], Callable[[Row, Any], None]]:
    """`predict_proba_one` and `learn_one` of `tree`."""

    def predict(x: Row) -> Votes:
        every = dict.fromkeys(tree.classes, 0.0)
        for leaf in _leaves(tree._root, x) if _is_plain(x) else (None,):
            votes = leaf and _ask(leaf, x)[0]
            if votes is None:
                return tree.predict_proba_one(x)  # type: ignore[no-any-return]
            for label, vote in votes.items():
                every[label] = every[label] + vote if label in every else vote
        return _scaled(every, sum(every.values()))

    def learn(x: Row, y: Any) -> None:
        if tree._root is None or not _is_plain(x):
            tree.learn_one(x, y)
            return
        tree.classes.add(y)
        tree._train_weight_seen_by_model += 1.0
        _learn(tree, tree._root, x, y, None, None)
        if tree._train_weight_seen_by_model % tree.memory_estimate_period == 0:
            tree._estimate_model_size()

    return predict, learn


def _is_plain(x: Row) -> bool:
    """Whether all values are numbers, as what they add up to shows at once."""
    try:
        return sum(x.values()).__class__ in (float, int)
    except (TypeError, OverflowError):
        return False


def _leaf(node: Any, x: Row) -> Any:
    """The leaf that a row reaches from `node`; None where River has to find it."""
    try:
        while node.__class__ is AdaNumBinaryBranchClass:
            node = node.children[0 if x[node.feature] <= node.threshold else 1]
    except KeyError:
        return None
    return node if node.__class__ is AdaLeafClassifier else None


def _leaves(node: Any, x: Row) -> list[Any]:
    """Every leaf that has a say, alternate ones first; None among them where River has to ask."""
    found = []
    last = _leaf(node, x)
    while last and node is not last:
        if node._alternate_tree:
            found.append(node._alternate_tree if node._alternate_tree.__class__ is AdaLeafClassifier else None)
        node = node.children[0 if x[node.feature] <= node.threshold else 1]
    return [*found, last]


# -- learning --------------------------------------------------------------------------------------------------------


def _learn(tree: Any, node: Any, x: Row, y: Any, parent: Any, number: int | None) -> None:
    """Teach `node`, which is or may become child `number` of `parent`, and all below it on the way of a row."""
    leaf = _leaf(node, x)
    if leaf is None:
        node.learn_one(x, y, w=1.0, tree=tree, parent=parent, parent_branch=number)
        return
    asked = None
    while node is not leaf:
        asked = asked or _ask(leaf, x)
        stats = node.stats
        stats[y] = stats[y] + 1.0 if y in stats else 1.0
        if _grows(node, _is_wrong(asked[0], y)):
            node._mean_error = node._mean_error.clone()
            node._alternate_tree = tree._new_leaf(parent=node)
            node._alternate_tree.depth -= 1
            tree._n_alternate_trees += 1
        elif node._alternate_tree:
            _contest(tree, node, parent, number)
        if node._alternate_tree:
            _learn(tree, node._alternate_tree, x, y, parent, number)
            asked = None  # an alternate that tries to split may take the leaf's splitters, where memory has a limit
        parent, number = node, 0 if x[node.feature] <= node.threshold else 1
        node = node.children[number]
    _learn_leaf(tree, leaf, asked, x, y, parent, number)


def _contest(tree: Any, node: Any, parent: Any, number: int | None) -> None:
    """Between a branch and its alternate tree the lower error decides, if it differs by more than Hoeffding's bound."""
    alternate = node._alternate_tree
    seen, theirs = node._mean_error.n, alternate._mean_error.n
    if min(seen, theirs) <= tree.drift_window_threshold:
        return
    error, other = node._mean_error._mean, alternate._mean_error._mean
    inverse = 1.0 / theirs + 1.0 / seen
    bound = sqrt(2.0 * error * (1.0 - error) * log(2.0 / tree.switch_significance) * inverse)
    if bound < error - other:
        tree._n_active_leaves += alternate.n_leaves - node.n_leaves
        node.kill_tree_children(tree)
        if parent is None:
            tree._root = tree._root._alternate_tree
        else:
            parent.children[number] = alternate
            node._alternate_tree = None
        tree._n_switch_alternate_trees += 1
    elif bound < other - error:
        if isinstance(alternate, DTBranch):
            alternate.kill_tree_children(tree)  # type: ignore[attr-defined]
        node._alternate_tree = None
        tree._n_pruned_alternate_trees += 1


def _learn_leaf(tree: Any, leaf: Any, asked: Any, x: Row, y: Any, parent: Any, number: int | None) -> None:
    """`asked` is what the leaf answers, if it was asked already."""
    weight = 1.0
    if tree.bootstrap_sampling:
        drawn = poisson(rate=1, rng=leaf.rng)
        if drawn > 0:
            weight *= drawn
    prediction, votes = asked or _ask(leaf, x)
    _grows(leaf, _is_wrong(prediction, y))
    stats, splitters = leaf.stats, leaf.splitters
    if splitters is not None:
        if not stats or _best(_scaled(stats, sum(stats.values()))) == y:
            leaf._mc_correct_weight += weight
        if votes is None:
            votes = _bayes(x, stats, splitters)
        if votes and _best(votes) == y:
            leaf._nb_correct_weight += weight
    stats[y] = stats[y] + weight if y in stats else weight
    if splitters is not None:
        _observe(leaf, x, y, weight)
    seen = leaf.total_weight
    if seen - leaf._last_split_attempt_at < tree.grace_period:
        return
    if leaf.depth >= tree.max_depth:
        leaf.deactivate()
        tree._n_inactive_leaves += 1
        tree._n_active_leaves -= 1
    elif leaf.is_active():
        tree._attempt_to_split(leaf, parent, number, drift_detector=tree.drift_detector.clone())
        leaf.last_split_attempt_at = seen


def _grows(node: Any, wrong: int) -> bool:
    """Tell a node's detector of an answer; whether its error has changed, and not for the better."""
    mean, detector = node._mean_error, node.drift_detector
    before = mean._mean
    detector.update(wrong)
    mean.n = n = mean.n + 1.0
    mean._mean = before + (1.0 / n) * (wrong - before)
    if not detector.drift_detected:
        return False
    if before > mean._mean:
        node._mean_error = mean.clone()
        return False
    return True


def _observe(leaf: Any, x: Row, y: Any, weight: float) -> None:
    """Each feature's distribution in class `y`: its range, and mean and variance after West (1979)."""
    splitters = leaf.splitters
    for name, value in x.items():
        splitter = splitters.get(name)
        if splitter.__class__ is not GaussianSplitter:
            leaf.update_splitters({name: value}, y, weight, None)
            continue
        gaussian = splitter._att_dist_per_class.get(y)
        if gaussian is None:
            splitter.update(value, y, weight)  # type: ignore[no-untyped-call]
            continue
        if value < splitter._min_per_class[y]:
            splitter._min_per_class[y] = value
        if value > splitter._max_per_class[y]:
            splitter._max_per_class[y] = value
        variance = gaussian._var
        mean = variance.mean
        before = mean._mean
        mean.n = n = mean.n + weight
        mean._mean = after = before + (weight / n) * (value - before)
        variance._S += weight * (value - before) * (value - after)


# -- asking ----------------------------------------------------------------------------------------------------------


def _ask(leaf: Any, x: Row) -> tuple[Votes | None, Votes | None]:
    """What a leaf answers, None before it has seen any class; and its naive Bayes votes where it goes by them."""
    stats = leaf.stats
    if not stats:
        return None, None
    bayes = None
    if leaf.splitters is not None and leaf._nb_correct_weight >= leaf._mc_correct_weight:
        votes = bayes = _bayes(x, stats, leaf.splitters)
    else:
        votes = _scaled(stats, sum(stats.values()))
    error = leaf._mean_error._mean
    return _scaled(votes, sum(votes.values()) * error * error), bayes


def _bayes(x: Row, stats: Votes, splitters: dict[str, Any]) -> Votes:
    """Naive Bayes over the Gaussians of a leaf: each class's probability."""
    try:
        total = sum(stats.values())
        votes = {label: log(weight / total) for label, weight in stats.items() if weight > 0}
        if len(votes) != len(stats):
            return _rivers_bayes(x, stats, splitters)
        for name, splitter in splitters.items():
            if splitter.__class__ is not GaussianSplitter:
                return _rivers_bayes(x, stats, splitters)
            value = x[name]
            for label, gaussian in splitter._att_dist_per_class.items():
                held = gaussian._var
                mean = held.mean
                freedom = mean.n - held.ddof
                if freedom > 0:
                    variance = held._S / freedom
                    if variance > 0.0:
                        log_p = (value - mean._mean) ** 2 / (-2.0 * variance) - _HALF_LOG_TAU - 0.5 * log(variance)
                        if log_p > -inf:
                            votes[label] += log_p
        most = max(votes.values())
        whole = most + log(sum([exp(vote - most) for vote in votes.values()]))
        return {label: exp(vote - whole) for label, vote in votes.items()}
    except (ArithmeticError, KeyError, ValueError):
        return _rivers_bayes(x, stats, splitters)


def _rivers_bayes(x: Row, stats: Votes, splitters: dict[str, Any]) -> Votes:
    return do_naive_bayes_prediction(x, stats, splitters)  # type: ignore[no-any-return]


def _scaled(votes: Votes, factor: float) -> Votes:
    """Divided by `factor`, unless that is zero or no number."""
    if factor == 0 or factor != factor:
        return votes
    by = 1 / factor
    return {label: vote * by for label, vote in votes.items()}


def _best(votes: Votes) -> Any:
    return max(votes, key=votes.__getitem__)


def _is_wrong(votes: Votes | None, y: Any) -> int:
    return 0 if y == (_best(votes) if votes else None) else 1
