"""Which models a training makes, and from what. Cheap to import: DAG files build their graphs from it."""

from __future__ import annotations

from nightshift.errors import ConfigurationError
from nightshift.usecase import UseCase

ESTIMATORS = ("logistic_regression", "xgboost")
"""Fitted on the labels; the best of them is the teacher."""

STUDENTS = ("distilled_xgboost", "distilled_mlp")
"""Fitted on the teacher's answers."""

QUANTIZED_FROM = {"distilled_mlp_int8": "distilled_mlp"}
"""Candidates that fit nothing of their own: the graph of another one, in eight bits."""


def estimators(use_case: UseCase) -> tuple[str, ...]:
    """Names for `fit`. Raises ConfigurationError for one that is not known."""
    return _known(use_case, use_case.training.estimators, ESTIMATORS, "estimators")


def students(use_case: UseCase) -> tuple[str, ...]:
    """Names for `compress`: each technique that fits something, or that another one is made from."""
    techniques = _known(use_case, use_case.training.techniques, (*STUDENTS, *QUANTIZED_FROM), "techniques")
    return tuple(dict.fromkeys(fitted_as(technique) for technique in techniques))


def candidates(use_case: UseCase) -> tuple[str, ...]:
    """Names for `export` and `verify`: all models that `register` chooses from, teachers first."""
    students(use_case)
    return (*estimators(use_case), *use_case.training.techniques)


def fitted_as(candidate: str) -> str:
    """The name under which the model that a candidate is exported from was fitted."""
    return QUANTIZED_FROM.get(candidate, candidate)


def mapped_calls(use_case: UseCase) -> dict[str, list[dict[str, str]]]:
    """For each mapped step of a training, the keyword arguments that differ between its calls.

    Steps run in this order, each with what all calls of the earlier ones returned:
    `fit(training_set, estimator)`, `compress(training_set, teachers=fit, technique)`,
    `export(teachers=fit, students=compress, candidate)`,
    `verify(training_set, exports=export, candidate)`, `register(training_set, verified=verify)`.
    `compress` has no calls where a use case wants no compression: leave it out and give `students=[]`.
    """
    return {
        "fit": [{"estimator": name} for name in estimators(use_case)],
        "compress": [{"technique": name} for name in students(use_case)],
        "export": [{"candidate": name} for name in candidates(use_case)],
        "verify": [{"candidate": name} for name in candidates(use_case)],
    }


def _known(use_case: UseCase, named: tuple[str, ...], known: tuple[str, ...], what: str) -> tuple[str, ...]:
    if unknown := [name for name in named if name not in known]:
        raise ConfigurationError(
            f"{use_case.name} names the {what} {unknown} in its training policy; known are {list(known)}."
        )
    if what == "estimators" and not named:
        raise ConfigurationError(f"{use_case.name} names no estimators in its training policy; name one of {known}.")
    return named
