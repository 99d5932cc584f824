"""Which models a training makes, and from what. Cheap to import: DAG files build their graphs from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nightshift.errors import ConfigurationError
from nightshift.usecase import UseCase

ESTIMATORS = ("logistic_regression", "xgboost", "level_additive", "level_blend")
"""Fitted on the labels; the one with the lowest holdout log loss is the teacher."""

STUDENTS = ("distilled_xgboost", "distilled_mlp", "distilled_additive")
"""Small models fitted on the answers of the estimators."""


@dataclass(frozen=True)
class Recipe:
    """A model made from another one: the fitted model `source` (an estimator or a student), then each of
    `techniques` (modules of `nightshift.core.compression`) in turn."""

    source: str
    techniques: tuple[str, ...]


RECIPES: Mapping[str, Recipe] = {
    "xgboost_clean": Recipe("xgboost", ("clean_up",)),
    "xgboost_pruned": Recipe("xgboost", ("prune_trees", "clean_up")),
    "xgboost_selected": Recipe("xgboost", ("select_trees", "clean_up")),
    "xgboost_rounded": Recipe("xgboost", ("round_values", "clean_up")),
    "xgboost_small": Recipe("xgboost", ("select_trees", "prune_trees", "round_values", "clean_up")),
    "xgboost_int8": Recipe("xgboost", ("int8_dynamic",)),
    "logistic_regression_int8": Recipe("logistic_regression", ("int8_dynamic",)),
    "distilled_xgboost_small": Recipe("distilled_xgboost", ("prune_trees", "round_values", "clean_up")),
    "distilled_mlp_low_rank": Recipe("distilled_mlp", ("low_rank",)),
    "distilled_mlp_pruned": Recipe("distilled_mlp", ("magnitude_pruning",)),
    "distilled_mlp_int8": Recipe("distilled_mlp", ("int8_dynamic",)),
    "distilled_mlp_int8_static": Recipe("distilled_mlp", ("int8_static",)),
    "distilled_mlp_low_rank_int8": Recipe("distilled_mlp", ("low_rank", "int8_dynamic")),
    "distilled_mlp_small": Recipe("distilled_mlp", ("magnitude_pruning", "int8_static")),
    "distilled_additive_small": Recipe("distilled_additive", ("select_features",)),
}
"""How each compressed candidate is made."""


def estimators(use_case: UseCase) -> tuple[str, ...]:
    """Names for `fit`. Raises ConfigurationError for one that is not known."""
    return _known(use_case, use_case.training.estimators, ESTIMATORS, "estimators")


def students(use_case: UseCase) -> tuple[str, ...]:
    """Names for `distil`: each wanted student, and each that a wanted recipe is made from."""
    made_from = {name: RECIPES[name].source if name in RECIPES else name for name in _techniques(use_case)}
    return tuple(dict.fromkeys(source for source in made_from.values() if source in STUDENTS))


def compressed(use_case: UseCase) -> tuple[str, ...]:
    """Names for `compress`: the wanted recipes."""
    return tuple(name for name in _techniques(use_case) if name in RECIPES)


def candidates(use_case: UseCase) -> tuple[str, ...]:
    """Names for `export` and `verify`: all models that `select_model` chooses from; estimators, students, recipes."""
    wanted = tuple(name for name in _techniques(use_case) if name in STUDENTS)
    return (*estimators(use_case), *wanted, *compressed(use_case))


def fitted_as(candidate: str) -> str:
    """The estimator or student that a candidate is, or is made from."""
    return RECIPES[candidate].source if candidate in RECIPES else candidate


def mapped_calls(use_case: UseCase) -> dict[str, list[dict[str, str]]]:
    """For each mapped step of a training, the keyword arguments that differ between its calls.

    Steps run in this order, each with what all calls of the earlier ones returned:
    `fit(training_set, estimator)`, `distil(training_set, teachers=fit, student)`,
    `compress(training_set, fitted=fit, distilled=distil, candidate)`,
    `export(fitted=fit, distilled=distil, compressed=compress, candidate)`,
    `verify(training_set, fitted=fit, exports=export, candidate)`,
    `select_model(training_set, verified=verify)`, `register(training_set, selected=select_model)`.
    `distil` and `compress` have no calls where a use case wants none: leave them out and give [].
    """
    return {
        "fit": [{"estimator": name} for name in estimators(use_case)],
        "distil": [{"student": name} for name in students(use_case)],
        "compress": [{"candidate": name} for name in compressed(use_case)],
        "export": [{"candidate": name} for name in candidates(use_case)],
        "verify": [{"candidate": name} for name in candidates(use_case)],
    }


def _techniques(use_case: UseCase) -> tuple[str, ...]:
    return _known(use_case, use_case.training.techniques, (*STUDENTS, *RECIPES), "techniques")


def _known(use_case: UseCase, named: tuple[str, ...], known: tuple[str, ...], what: str) -> tuple[str, ...]:
    if unknown := [name for name in named if name not in known]:
        raise ConfigurationError(
            f"{use_case.name} names the {what} {unknown} in its training policy; known are {list(known)}."
        )
    if what == "estimators" and not named:
        raise ConfigurationError(f"{use_case.name} names no estimators in its training policy; name one of {known}.")
    return named
