"""The compression techniques by name, and the application of chains of them.

A technique is a function `(model, problem) -> model` in a module of its own name in a folder below, and a line here.
It raises NotApplicable for models that it does not support.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module

from nightshift.core.compression.problem import Problem
from nightshift.core.models.fitted import FittedModel
from nightshift.errors import NotApplicable

Technique = Callable[[FittedModel, Problem], FittedModel]

TECHNIQUES = {
    "clean_up": "trees",
    "prune_trees": "trees",
    "round_values": "trees",
    "select_trees": "trees",
    "int8_dynamic": "networks",
    "int8_static": "networks",
    "low_rank": "networks",
    "magnitude_pruning": "networks",
    "distilled_additive": "students",
    "distilled_mlp": "students",
    "distilled_xgboost": "students",
    "select_features": "students",
}
"""The folder of each technique's module."""


def find_technique(name: str) -> Technique:
    """The function of a technique, imported when it is used. Raises KeyError for an unknown name."""
    technique: Technique = getattr(import_module(f"{__package__}.{TECHNIQUES[name]}.{name}"), name)
    return technique


def apply(techniques: Sequence[str], model: FittedModel, problem: Problem) -> FittedModel:
    """Apply the techniques one after another. Raises NotApplicable naming the technique that does not apply."""
    for name in techniques:
        try:
            model = find_technique(name)(model, problem)
        except NotApplicable as error:
            raise NotApplicable(error.code, f"{name}: {error.message}") from error
    return model
