"""Every technique by its name, and recipes carried out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nightshift.core.compression.clean_up import clean_up
from nightshift.core.compression.distilled_additive import distilled_additive
from nightshift.core.compression.distilled_mlp import distilled_mlp
from nightshift.core.compression.distilled_xgboost import distilled_xgboost
from nightshift.core.compression.int8_dynamic import int8_dynamic
from nightshift.core.compression.int8_static import int8_static
from nightshift.core.compression.low_rank import low_rank
from nightshift.core.compression.magnitude_pruning import magnitude_pruning
from nightshift.core.compression.problem import Problem, Technique
from nightshift.core.compression.prune_trees import prune_trees
from nightshift.core.compression.round_values import round_values
from nightshift.core.compression.select_features import select_features
from nightshift.core.compression.select_trees import select_trees
from nightshift.core.estimators import FittedModel
from nightshift.errors import NotApplicable

TECHNIQUES: Mapping[str, Technique] = {
    "clean_up": clean_up,
    "distilled_additive": distilled_additive,
    "distilled_mlp": distilled_mlp,
    "distilled_xgboost": distilled_xgboost,
    "int8_dynamic": int8_dynamic,
    "int8_static": int8_static,
    "low_rank": low_rank,
    "magnitude_pruning": magnitude_pruning,
    "prune_trees": prune_trees,
    "round_values": round_values,
    "select_features": select_features,
    "select_trees": select_trees,
}


def apply(techniques: Sequence[str], model: FittedModel, problem: Problem) -> FittedModel:
    """The model after each technique in turn. Raises NotApplicable naming the technique that does not apply."""
    for name in techniques:
        try:
            model = TECHNIQUES[name](model, problem)
        except NotApplicable as error:
            raise NotApplicable(f"{name}: {error}") from error
    return model
