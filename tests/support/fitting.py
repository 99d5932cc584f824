"""Estimators fitted on the synthetic training set, and damage to the graphs that they are exported as."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import onnx

from nightshift.core.inference.onnx_model import Signature
from nightshift.core.models.estimators import DEFAULTS, fit_estimator
from nightshift.core.models.fitted import FittedModel, hyperparameters
from nightshift.core.models.training_split import TrainingSplit
from support.synthetic_training_set import SIGNATURE, use_case


def fit(
    name: str,
    split: TrainingSplit,
    signature: Signature = SIGNATURE,
    *,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    threads: int = 2,
    **parameters: Any,
) -> FittedModel:
    """An estimator, fitted with the parameters that the use case (or `overrides`) declares, and these besides."""
    declared = use_case().training.parameters if overrides is None else overrides
    chosen = hyperparameters(name, DEFAULTS, declared, split.train.num_rows) | parameters
    return fit_estimator(name, split.train, split.train_labels, signature, chosen, seed=7, threads=threads)


def damaged(graph: bytes, damage: Callable[[onnx.GraphProto], None]) -> bytes:
    """A graph after some damage."""
    model = onnx.ModelProto.FromString(graph)
    damage(model.graph)
    return model.SerializeToString()


def attribute(graph: onnx.GraphProto, name: str) -> Any:
    """The first attribute of that name of any node."""
    return next(a for node in graph.node for a in node.attribute if a.name == name)
