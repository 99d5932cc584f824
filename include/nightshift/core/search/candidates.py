"""The model specs that a search compares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nightshift.core.compression.students.students import DEFAULTS as STUDENT_DEFAULTS
from nightshift.core.models.estimators import DEFAULTS
from nightshift.declare.models import Hyperparameters, ModelSpec
from nightshift.declare.use_case import UseCase
from nightshift.errors import ConfigurationError

ESTIMATORS = tuple(DEFAULTS)
"""Fitted on labels."""

STUDENTS = tuple(STUDENT_DEFAULTS)
"""Small models fitted on the mean of the estimators' log odds."""

ABLATION = "additive"
"""Compared in every search: the form of the additive student, fitted on labels; measures the gain of distillation."""

RECIPES: Mapping[str, tuple[str, ...]] = {
    "xgboost_clean": ("xgboost", "clean_up"),
    "xgboost_pruned": ("xgboost", "prune_trees", "clean_up"),
    "xgboost_selected": ("xgboost", "select_trees", "clean_up"),
    "xgboost_rounded": ("xgboost", "round_values", "clean_up"),
    "xgboost_small": ("xgboost", "select_trees", "prune_trees", "round_values", "clean_up"),
    "xgboost_int8": ("xgboost", "int8_dynamic"),
    "logistic_regression_int8": ("logistic_regression", "int8_dynamic"),
    "distilled_xgboost_small": ("distilled_xgboost", "prune_trees", "round_values", "clean_up"),
    "distilled_mlp_low_rank": ("distilled_mlp", "low_rank"),
    "distilled_mlp_pruned": ("distilled_mlp", "magnitude_pruning"),
    "distilled_mlp_int8": ("distilled_mlp", "int8_dynamic"),
    "distilled_mlp_int8_static": ("distilled_mlp", "int8_static"),
    "distilled_mlp_low_rank_int8": ("distilled_mlp", "low_rank", "int8_dynamic"),
    "distilled_mlp_small": ("distilled_mlp", "magnitude_pruning", "int8_static"),
    "distilled_additive_small": ("distilled_additive", "select_features"),
}
"""The chain of each compressed candidate: an estimator or a student, then techniques in turn."""


def candidate_specs(
    use_case: UseCase, declared: Iterable[ModelSpec], settings: Mapping[str, Hyperparameters]
) -> tuple[ModelSpec, ...]:
    """The specs to compare: the `declared` ones, then what the training policy's estimators and techniques expand to.

    Students learn from all estimators of the policy. `settings`: hyperparameters that a study found, by
    estimator; each is one more candidate `<estimator>_tuned`. Of specs that differ in name only, the first stays.
    Raises ConfigurationError for an estimator or technique that does not exist, or no estimators.
    """
    policy = use_case.training
    estimators = _checked_names(use_case, policy.estimators, ESTIMATORS, "estimators")
    techniques = _checked_names(use_case, policy.techniques, (*STUDENTS, *RECIPES), "techniques")
    if not estimators:
        raise ConfigurationError(
            "NS-SEARCH-001", f"{use_case.name} names no estimators in its training policy; known: {ESTIMATORS}."
        )
    parameters = policy.parameters
    specs = list(declared)
    specs += [_spec(name, (name,), (), parameters, policy.seed) for name in (*estimators, ABLATION)]
    for name in techniques:
        source, *steps = RECIPES.get(name, (name,))
        if source in STUDENTS:
            specs.append(_spec(name, estimators, (source, *steps), parameters, policy.seed))
        else:
            specs.append(_spec(name, (source,), tuple(steps), parameters, policy.seed))
    for name, values in settings.items():
        tuned = {**parameters, name: {**parameters.get(name, {}), **values}}
        specs.append(_spec(f"{name}_tuned", (name,), (), tuned, policy.seed))
    different: dict[str, ModelSpec] = {}
    for spec in specs:
        different.setdefault(_content(spec), spec)
    return tuple(different.values())


def _spec(
    name: str,
    estimators: tuple[str, ...],
    compression: tuple[str, ...],
    parameters: Mapping[str, Hyperparameters],
    seed: int,
) -> ModelSpec:
    """A spec with the hyperparameters of its own estimators and techniques only."""
    own = {key: dict(values) for key, values in parameters.items() if key in {*estimators, *compression}}
    return ModelSpec(name=name, estimators=estimators, compression=compression, parameters=own, seed=seed)


def _content(spec: ModelSpec) -> str:
    used = {key: values for key, values in spec.parameters.items() if key in {*spec.estimators, *spec.compression}}
    return spec.model_copy(update={"name": "same", "parameters": used}).spec_id


def _checked_names(use_case: UseCase, names: tuple[str, ...], allowed: tuple[str, ...], what: str) -> tuple[str, ...]:
    if unknown := [name for name in names if name not in allowed]:
        raise ConfigurationError(
            "NS-SEARCH-002",
            f"{use_case.name} names the {what} {unknown} in its training policy; known are {list(allowed)}.",
        )
    return names
