"""A Hoeffding tree, asked and taught in River's own nodes: the same bits with fewer steps in between.

River's `HoeffdingTreeClassifier` (Domingos and Hulten, 2000) with leaves that choose between majority and naive Bayes,
and Gaussian splitters (`tree_leaves.py`). What is learned stands in River's nodes after every step, so that there is
nothing to write back. Whatever else comes up, as a row in which something is no number or a branch of another kind,
goes to River's own method. Trees that estimate their size are left to River, because that depends on addresses.
`adaptive_tree.py` is the same for trees that adapt.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from river.tree import HoeffdingTreeClassifier
from river.tree.nodes.branch import NumericBinaryBranch
from river.tree.nodes.htc_nodes import LeafNaiveBayesAdaptive
from river.tree.splitter import GaussianSplitter

from headrace.processors.tree_leaves import Row, Votes, ask_leaf, find_leaf, has_numbers_only, teach_leaf

__all__ = ["compile_tree", "fits"]


def fits(model: Any, kind: Any = HoeffdingTreeClassifier) -> bool:
    """Whether `model` is a tree of exactly this kind, with such leaves and splitters."""
    return (
        type(model) is kind
        and type(model.splitter) is GaussianSplitter
        and model.leaf_prediction == "nba"
        and model.nominal_attributes is None
        and model.memory_estimate_period == inf
    )


def compile_tree(tree: Any) -> tuple[Callable[[Row], Votes], Callable[[Row, Any], None]]:
    """`predict_proba_one` and `learn_one` of `tree`."""

    def predict(x: Row) -> Votes:
        leaf = _reach(tree, x)[0]
        if leaf is None:
            return tree.predict_proba_one(x)  # type: ignore[no-any-return]
        return dict.fromkeys(sorted(tree.classes), 0.0) | ask_leaf(leaf, x)[0]

    def learn(x: Row, y: Any) -> None:
        leaf, parent, number = _reach(tree, x)
        if leaf is None:
            tree.learn_one(x, y)
            return
        tree.classes.add(y)
        tree._train_weight_seen_by_model += 1.0
        teach_leaf(leaf, x, y, 1.0, None)
        if tree._growth_allowed and leaf.splitters is not None:
            _consider_split(tree, leaf, parent, number)

    return predict, learn


def _reach(tree: Any, x: Row) -> tuple[Any, Any, int | None]:
    """The leaf of a row, its parent and its number there; no leaf where River has to find it."""
    if has_numbers_only(x):
        return find_leaf(tree._root, x, NumericBinaryBranch, LeafNaiveBayesAdaptive)
    return None, None, None


def _consider_split(tree: Any, leaf: Any, parent: Any, number: int | None) -> None:
    if leaf.depth >= tree.max_depth:
        leaf.deactivate()
        tree._n_active_leaves -= 1
        tree._n_inactive_leaves += 1
        return
    seen = leaf.total_weight
    if seen - leaf.last_split_attempt_at >= tree.grace_period:
        tree._attempt_to_split(leaf, parent, number)
        leaf.last_split_attempt_at = seen
