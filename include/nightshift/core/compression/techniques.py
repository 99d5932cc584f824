"""The names of the techniques, and chains of them carried out.

A technique is a function `(model, problem) -> model` in a module of its own name here, and a line below. It raises
NotApplicable where it makes no sense.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from nightshift.core.compression.problem import Problem
from nightshift.core.models.estimators import FittedModel
from nightshift.errors import NotApplicable

TECHNIQUES = (
    "clean_up",
    "distilled_additive",
    "distilled_mlp",
    "distilled_xgboost",
    "int8_dynamic",
    "int8_static",
    "low_rank",
    "magnitude_pruning",
    "prune_trees",
    "round_values",
    "select_features",
    "select_trees",
)


def apply(techniques: Sequence[str], model: FittedModel, problem: Problem) -> FittedModel:
    """The model after each technique in turn. Raises NotApplicable naming the technique that does not apply."""
    for name in techniques:
        try:
            model = getattr(import_module(f"{__package__}.{name}"), name)(model, problem)
        except NotApplicable as error:
            raise NotApplicable(f"{name}: {error}") from error
    return model
