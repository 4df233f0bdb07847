"""A Hoeffding adaptive tree, asked and taught in River's own nodes: the same bits with fewer steps in between.

River's `HoeffdingAdaptiveTreeClassifier` (Bifet and Gavaldà, 2009) asks the leaf of a row once for every branch above
it, and then twice more. Here the leaf is asked once. What `hoeffding_tree.py` says of River's nodes and of other rows
and branches holds here too.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log, sqrt
from typing import Any

from river.tree import HoeffdingAdaptiveTreeClassifier
from river.tree.nodes.branch import DTBranch
from river.tree.nodes.hatc_nodes import AdaLeafClassifier, AdaNumBinaryBranchClass
from river.utils.random import poisson

from headrace.processors import hoeffding_tree
from headrace.processors.tree_leaves import (
    Row,
    Votes,
    ask_leaf,
    best,
    find_leaf,
    has_numbers_only,
    scaled,
    teach_leaf,
)

__all__ = ["compile_tree", "fits"]


def fits(model: Any) -> bool:
    """Whether `model` is such a tree."""
    return hoeffding_tree.fits(model, HoeffdingAdaptiveTreeClassifier)


def compile_tree(tree: Any) -> tuple[Callable[[Row], Votes], Callable[[Row, Any], None]]:
    """`predict_proba_one` and `learn_one` of `tree`."""

    def predict(x: Row) -> Votes:
        every = dict.fromkeys(tree.classes, 0.0)
        for leaf in _leaves(tree._root, x) if has_numbers_only(x) else (None,):
            votes = leaf and _ask(leaf, x)[0]
            if votes is None:
                return tree.predict_proba_one(x)  # type: ignore[no-any-return]
            for label, vote in votes.items():
                every[label] = every[label] + vote if label in every else vote
        return scaled(every, sum(every.values()))

    def learn(x: Row, y: Any) -> None:
        if tree._root is None or not has_numbers_only(x):
            tree.learn_one(x, y)
            return
        tree.classes.add(y)
        tree._train_weight_seen_by_model += 1.0
        _learn(tree, tree._root, x, y, None, None)

    return predict, learn


def _find_leaf(node: Any, x: Row) -> Any:
    return find_leaf(node, x, AdaNumBinaryBranchClass, AdaLeafClassifier)[0]


def _leaves(node: Any, x: Row) -> list[Any]:
    """Every leaf that has a say, alternate ones first; None among them where River has to ask."""
    found = []
    last = _find_leaf(node, x)
    while last and node is not last:
        if node._alternate_tree:
            found.append(node._alternate_tree if node._alternate_tree.__class__ is AdaLeafClassifier else None)
        node = node.children[0 if x[node.feature] <= node.threshold else 1]
    return [*found, last]


# -- learning --------------------------------------------------------------------------------------------------------


def _learn(tree: Any, node: Any, x: Row, y: Any, parent: Any, number: int | None) -> None:
    """Teach `node`, which is or may become child `number` of `parent`, and all below it on the way of a row."""
    leaf = _find_leaf(node, x)
    if leaf is None:
        node.learn_one(x, y, w=1.0, tree=tree, parent=parent, parent_branch=number)
        return
    asked = None
    while node is not leaf:
        asked = asked or _ask(leaf, x)
        stats = node.stats
        stats[y] = stats[y] + 1.0 if y in stats else 1.0
        if _tell(node, _is_wrong(asked[0], y)):
            node._mean_error = node._mean_error.clone()
            node._alternate_tree = tree._new_leaf(parent=node)
            node._alternate_tree.depth -= 1
            tree._n_alternate_trees += 1
        elif node._alternate_tree:
            _contest(tree, node, parent, number)
        if node._alternate_tree:
            _learn(tree, node._alternate_tree, x, y, parent, number)
            asked = None  # an alternate that tries to split may give back splitters that the leaf had lost
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
    _tell(leaf, _is_wrong(prediction, y))
    teach_leaf(leaf, x, y, weight, votes)
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


def _tell(node: Any, wrong: int) -> bool:
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


# -- asking ----------------------------------------------------------------------------------------------------------


def _ask(leaf: Any, x: Row) -> tuple[Votes | None, Votes | None]:
    """What a leaf answers, None before it has seen any class; and its naive Bayes votes where it goes by them."""
    if not leaf.stats:
        return None, None
    votes, bayes = ask_leaf(leaf, x)
    error = leaf._mean_error._mean
    return scaled(votes, sum(votes.values()) * error * error), bayes


def _is_wrong(votes: Votes | None, y: Any) -> int:
    return 0 if y == (best(votes) if votes else None) else 1
