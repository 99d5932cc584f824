"""A spec fitted on training rows, and its ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.artifact import canonical_json
from nightshift.core.arrays import Floats, Integers
from nightshift.core.compression.problem import Problem, mean_log_odds
from nightshift.core.compression.students.students import DEFAULTS as STUDENTS
from nightshift.core.compression.techniques import TECHNIQUES, apply
from nightshift.core.export.onnx_export import export_onnx
from nightshift.core.features.feature_computation import PARTITION
from nightshift.core.inference.onnx_model import Signature
from nightshift.core.models.estimators import DEFAULTS, fit_estimator
from nightshift.core.models.fitted import FittedModel, hyperparameters
from nightshift.declare.models import ModelSpec
from nightshift.declare.use_case import UseCase
from nightshift.errors import ConfigurationError, DataContractError


@dataclass(frozen=True)
class ExportedVersion:
    """A fitted spec and its graph. `full_precision`: for a quantized graph, the graph before quantization."""

    fitted: FittedModel
    graph: bytes
    full_precision: bytes | None = None

    @property
    def signature(self) -> Signature:
        """Input and output schema of the graph."""
        return self.fitted.signature


def signature_of_spec(use_case: UseCase, spec: ModelSpec) -> Signature:
    """Input and output schema of a spec's versions. Raises ConfigurationError if it names an unknown feature."""
    features = use_case.features
    unknown = sorted({*spec.numeric, *spec.categorical} - {*features.numeric, *features.categorical})
    if unknown:
        raise ConfigurationError(
            "NS-MODEL-001", f"Spec {spec.name} of {use_case.name} names features that are not declared: {unknown}."
        )
    everything = not (spec.numeric or spec.categorical)
    return Signature(
        numeric=features.numeric if everything else spec.numeric,
        categorical=features.categorical if everything else spec.categorical,
        feature_service=spec.feature_service or features.service,
        score=use_case.score,
    )


def fit_spec(
    spec: ModelSpec, rows: pa.Table, label: str, signature: Signature, *, as_of: date, threads: int
) -> FittedModel:
    """Fit a spec on all rows of its window.

    `rows`: the signature's columns, `label` (0 or 1) and `partition` (date32, at most `as_of`), sorted by
    partition. Row weights are 0.5 ** (age in days / half_life_days), age counted from `as_of`. The same rows give
    the same model. Raises DataContractError if the rows hold one class only, ConfigurationError for an unknown
    estimator or technique, NotApplicable if a technique does not apply to the estimators.
    """
    return SharedFits(rows, label, as_of=as_of, threads=threads).fit(spec, signature)


class SharedFits:
    """Fits several specs on the same rows, sharing estimators, teachers and the first steps of compression chains.

    `fit` returns the same model as `fit_spec`.
    """

    def __init__(self, rows: pa.Table, label: str, *, as_of: date, threads: int) -> None:
        self._rows, self._label, self._as_of, self._threads = rows, label, as_of, threads
        self._problems: dict[str, Problem] = {}
        self._models: dict[str, FittedModel] = {}

    def fit(self, spec: ModelSpec, signature: Signature) -> FittedModel:
        """Fit one spec. Raises as `fit_spec` does."""
        check_names(spec)
        rows_of = [spec.half_life_days, spec.window_days, spec.seed, signature.model_dump(mode="json")]
        models = [self._estimator(name, spec, signature, rows_of) for name in spec.estimators]
        if not spec.compression:
            return models[0]
        estimators = [[name, spec.parameters.get(name, {})] for name in spec.estimators]
        shared = _key(rows_of, estimators)
        if shared not in self._problems:
            rows, labels, _ = self._training_rows(spec)
            teacher = mean_log_odds([model.probability(rows) for model in models])
            self._problems[shared] = Problem(rows, labels, teacher, seed=spec.seed, threads=self._threads)
        problem = replace(self._problems[shared], parameters=spec.parameters)
        # A student can use every feature that any of the estimators kept.
        model = max(models, key=lambda one: len(one.signature.numeric) + len(one.signature.categorical))
        steps: list[Any] = []
        for name in spec.compression:
            steps.append([name, spec.parameters.get(name, {})])
            key = _key(rows_of, estimators, steps)
            if key not in self._models:
                self._models[key] = apply((name,), model, problem)
            model = self._models[key]
        return model

    def _estimator(self, name: str, spec: ModelSpec, signature: Signature, rows_of: list[Any]) -> FittedModel:
        key = _key(rows_of, [name, spec.parameters.get(name, {})])
        if key not in self._models:
            rows, labels, weights = self._training_rows(spec)
            parameters = hyperparameters(name, DEFAULTS, spec.parameters, rows.num_rows)
            self._models[key] = fit_estimator(
                name, rows, labels, signature, parameters, seed=spec.seed, threads=self._threads, weights=weights
            )
        return self._models[key]

    def _training_rows(self, spec: ModelSpec) -> tuple[pa.Table, Integers, Floats | None]:
        rows = within_window(self._rows, spec, self._as_of)
        labels = np.asarray(rows[self._label].to_numpy(), dtype=np.int64)
        classes = np.unique(labels).tolist()
        if classes != [0, 1]:
            raise DataContractError(
                "NS-MODEL-002",
                f"Spec {spec.spec_id}: its {rows.num_rows} training rows up to {self._as_of} have the labels "
                f"{classes} in {self._label!r}; both 0 and 1 are needed. Load more history, or widen the spec's "
                "window_days.",
            )
        return rows, labels, row_weights(rows, spec.half_life_days, self._as_of)


def _key(*parts: Any) -> str:
    return canonical_json(parts).decode()


def export_version(fitted: FittedModel) -> ExportedVersion:
    """Export the fitted model as the ONNX graph to deploy."""
    graph = export_onnx(fitted)
    return ExportedVersion(fitted, fitted.graph or graph, graph if fitted.graph is not None else None)


def row_weights(rows: pa.Table, half_life_days: float | None, as_of: date) -> Floats | None:
    """Exponentially decaying weights [n] by the age of each row's partition, 1 at `as_of`; None for equal weights."""
    if half_life_days is None:
        return None
    days = pc.cast(rows[PARTITION], pa.date32()).to_numpy()
    age = (np.datetime64(as_of) - days).astype(np.float64)
    return np.asarray(0.5 ** (age / half_life_days))


def within_window(rows: pa.Table, spec: ModelSpec, as_of: date) -> pa.Table:
    """The rows that a spec is fitted on as of a partition: those of its `window_days`, or all."""
    if spec.window_days is None:
        return rows
    first = np.datetime64(as_of) - np.timedelta64(spec.window_days - 1, "D")
    return rows.filter(pc.greater_equal(rows[PARTITION], pa.scalar(first.astype(object), pa.date32())))


def check_names(spec: ModelSpec) -> None:
    """Raises ConfigurationError for an estimator or technique that does not exist, or several without a student."""
    problems: Mapping[str, tuple[list[str], list[str]]] = {
        "estimators": ([n for n in spec.estimators if n not in DEFAULTS], sorted(DEFAULTS)),
        "compression": ([n for n in spec.compression if n not in TECHNIQUES], sorted(TECHNIQUES)),
    }
    for what, (unknown, existing) in problems.items():
        if unknown:
            raise ConfigurationError(
                "NS-MODEL-003", f"Spec {spec.name} names the {what} {unknown}; known are {existing}."
            )
    if len(spec.estimators) > 1 and (not spec.compression or spec.compression[0] not in STUDENTS):
        raise ConfigurationError(
            "NS-MODEL-004",
            f"Spec {spec.name} has {len(spec.estimators)} estimators; its compression must begin with a student that "
            f"learns from all of them: one of {sorted(STUDENTS)}.",
        )
