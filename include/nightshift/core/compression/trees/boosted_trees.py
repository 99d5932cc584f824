"""The trees of an XGBoost model as plain values, read from its JSON and written back.

Changed trees are loaded into XGBoost again, so that exports are compared with XGBoost's own scores as usual.
Model format: https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xgboost
from sklearn.pipeline import Pipeline
from xgboost import XGBClassifier

from nightshift.core.arrays import Floats
from nightshift.core.models.fitted import FittedModel
from nightshift.core.models.preprocessing import feature_frame
from nightshift.errors import NotApplicable

NO_PARENT = 2147483647


@dataclass(frozen=True)
class Leaf:
    """A leaf: what it adds to the log odds, and the hessian mass of the training rows in it."""

    value: np.float32
    cover: float = field(compare=False)
    id: int = field(default=-1, compare=False)


@dataclass(frozen=True)
class Split:
    """Rows with feature < threshold go left, others right, missing ones as `missing_left` says."""

    feature: int
    threshold: np.float32
    missing_left: bool
    left: Node
    right: Node
    cover: float = field(compare=False)
    id: int = field(default=-1, compare=False)


Node = Leaf | Split


@dataclass(frozen=True)
class Ensemble:
    """Trees whose leaf values are summed, and the log odds that the sum starts from.

    A node's `id` is its number in the booster it was read from.
    """

    trees: tuple[Node, ...]
    base_margin: float


def nodes(tree: Node) -> list[Node]:
    """All nodes, each before its children."""
    result: list[Node] = [tree]
    for node in result:
        if isinstance(node, Split):
            result += [node.left, node.right]
    return result


def booster_of(model: FittedModel) -> xgboost.Booster:
    """The model's booster. Raises NotApplicable if it is not made of boosted trees."""
    trees = model.pipeline[-1]
    if not isinstance(trees, XGBClassifier) or model.graph is not None:
        what = "an int8 graph" if model.graph is not None else type(trees).__name__
        raise NotApplicable("NS-MODEL-018", f"this is for boosted trees, and the model is {what}")
    return trees.get_booster()


def read_ensemble(model: FittedModel) -> Ensemble:
    """The trees of a fitted XGBoost model. Raises NotApplicable for any other model."""
    learner = json.loads(booster_of(model).save_raw("json"))["learner"]
    if learner["gradient_booster"]["name"] != "gbtree":
        raise NotApplicable("NS-MODEL-019", f"the booster is {learner['gradient_booster']['name']}, not gbtree")
    base_score = np.float64(json.loads(learner["learner_model_param"]["base_score"])[0])
    trees = learner["gradient_booster"]["model"]["trees"]
    return Ensemble(tuple(_read(tree) for tree in trees), float(np.log(base_score / (1 - base_score))))


def with_ensemble(model: FittedModel, ensemble: Ensemble) -> FittedModel:
    """The model with other trees in place of its own. A model without trees gets one leaf of 0."""
    document = json.loads(booster_of(model).save_raw("json"))
    learner = document["learner"]
    base_score = np.float32(1 / (1 + np.exp(-ensemble.base_margin)))
    learner["learner_model_param"]["base_score"] = f"[{base_score}]"
    kept = ensemble.trees or (Leaf(np.float32(0), 0.0),)
    boosted = learner["gradient_booster"]["model"]
    features = learner["learner_model_param"]["num_feature"]
    boosted["trees"] = [_written(tree, position, features) for position, tree in enumerate(kept)]
    boosted["tree_info"] = [0] * len(kept)
    boosted["iteration_indptr"] = list(range(len(kept) + 1))
    boosted["gbtree_model_param"]["num_trees"] = str(len(kept))
    trees = XGBClassifier(**model.pipeline[-1].get_params() | {"n_estimators": len(kept)})
    trees.load_model(bytearray(json.dumps(document).encode()))
    return replace(model, pipeline=Pipeline([("features", model.pipeline[0]), ("model", trees)]))


def with_leaves(tree: Node, value: Callable[[np.float32], Any]) -> Node:
    """The tree with other leaf values."""
    if isinstance(tree, Leaf):
        return replace(tree, value=np.float32(value(tree.value)))
    return replace(tree, left=with_leaves(tree.left, value), right=with_leaves(tree.right, value))


def leaf_ids(model: FittedModel, rows: pa.Table, threads: int) -> npt.NDArray[np.int64]:
    """For each row and tree, the number of the leaf it falls into: [n, trees]."""
    features = model.pipeline[:-1].transform(feature_frame(rows, model.signature))
    leaves = booster_of(model).predict(xgboost.DMatrix(features, nthread=threads), pred_leaf=True)
    return np.asarray(leaves, dtype=np.int64).reshape(rows.num_rows, -1)


def leaf_values(tree: Node) -> Floats:
    """A table from node number to leaf value; NaN where there is no leaf."""
    leaves = [node for node in nodes(tree) if isinstance(node, Leaf)]
    table = np.full(max(leaf.id for leaf in leaves) + 1, np.nan)
    for leaf in leaves:
        table[leaf.id] = leaf.value
    return table


def log_odds(base_margin: float, tables: Iterable[Floats], leaves: npt.NDArray[np.int64]) -> Floats:
    """Log odds of rows from `leaf_ids` [n, trees] and a table from leaf to value for each tree."""
    total = np.full(len(leaves), base_margin)
    for i, table in enumerate(tables):
        total += table[leaves[:, i]]
    return total


def _read(tree: dict[str, Any]) -> Node:
    def at(i: int) -> Node:
        cover, value = float(tree["sum_hessian"][i]), np.float32(tree["split_conditions"][i])
        if tree["left_children"][i] == -1:
            return Leaf(value, cover, i)
        left, right = at(tree["left_children"][i]), at(tree["right_children"][i])
        return Split(tree["split_indices"][i], value, bool(tree["default_left"][i]), left, right, cover, i)

    if tree["categories_nodes"] or tree["tree_param"]["size_leaf_vector"] not in ("0", "1"):
        raise NotApplicable("NS-MODEL-020", "the trees split on sets of categories or have vectors in their leaves")
    return at(0)


def _written(tree: Node, position: int, features: str) -> dict[str, Any]:
    """A tree in XGBoost's JSON format, its nodes numbered breadth first."""
    ordered = nodes(tree)
    splits = [node if isinstance(node, Split) else None for node in ordered]
    parents = [NO_PARENT] * len(ordered)
    left_children = [-1] * len(ordered)
    following = 1
    for i, node in enumerate(splits):
        if node is not None:
            left_children[i] = following
            parents[following] = parents[following + 1] = i
            following += 2
    conditions = [node.threshold if isinstance(node, Split) else node.value for node in ordered]
    count = len(ordered)
    return {
        "id": position,
        "left_children": left_children,
        "right_children": [-1 if left == -1 else left + 1 for left in left_children],
        "parents": parents,
        "split_indices": [node.feature if node else 0 for node in splits],
        # The shortest text that parses to the same float32.
        "split_conditions": [float(str(value)) for value in conditions],
        "default_left": [int(node.missing_left) if node else 0 for node in splits],
        "split_type": [0] * count,
        "base_weights": [0.0] * count,
        "loss_changes": [0.0] * count,
        "sum_hessian": [float(str(np.float32(node.cover))) for node in ordered],
        "categories": [],
        "categories_nodes": [],
        "categories_segments": [],
        "categories_sizes": [],
        "tree_param": {"num_deleted": "0", "num_feature": features, "num_nodes": str(count), "size_leaf_vector": "1"},
    }
