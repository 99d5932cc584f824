"""Export of a fitted pipeline as an ONNX graph with the inputs and the output defined by `onnx_model`."""

from __future__ import annotations

import json

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
from skl2onnx import convert_sklearn, update_registered_converter
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes
from xgboost import XGBClassifier

from nightshift.core.export.dense_export import dense_graph
from nightshift.core.export.level_export import blend_graph, level_additive_graph
from nightshift.core.export.two_level_export import two_level_graph
from nightshift.core.inference.onnx_model import CATEGORICAL_INPUT, NUMERIC_INPUT, OUTPUT
from nightshift.core.models.blend import LogOddsBlend
from nightshift.core.models.fitted import FittedModel
from nightshift.core.models.level_additive import LevelAdditive
from nightshift.core.models.network import layers_of
from nightshift.core.models.two_level import TwoLevel

OPSETS = {"": 21, "ai.onnx.ml": 3}
"""Pinned, so that a graph does not change with the newest opset a library knows."""


def export_onnx(fitted: FittedModel, *, folded: bool = True) -> bytes:
    """The fitted pipeline as a serialised ONNX graph. The same fitted model gives the same bytes.

    Linear models and networks get a graph optimised for speed (`dense_export`, which explains `folded`), trees
    that of their converter. Silent errors of an export (missing values, unseen categories, base scores) are
    checked by `parity`.
    """
    last = fitted.pipeline[-1]
    layers = layers_of(last)
    if isinstance(last, LevelAdditive):
        model = level_additive_graph(last, fitted.signature, OPSETS)
    elif isinstance(last, LogOddsBlend):
        trees = _converted(FittedModel(last.trees, fitted.signature))
        levels = None if last.two_level is None else two_level_graph(last.two_level, fitted.signature, OPSETS)
        model = blend_graph(last, trees, levels, fitted.signature, OPSETS)
    elif isinstance(last, TwoLevel):
        model = two_level_graph(last, fitted.signature, OPSETS)
    elif layers is None:
        model = _converted(fitted)
    else:
        model = dense_graph(fitted.pipeline[0], layers, fitted.signature, OPSETS, folded=folded)
    onnx.checker.check_model(model)
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


def _converted(fitted: FittedModel) -> onnx.ModelProto:
    """The graph of a pipeline that ends in boosted trees."""
    signature = fitted.signature
    inputs: list[tuple[str, FloatTensorType | StringTensorType]] = [
        (NUMERIC_INPUT, FloatTensorType([None, len(signature.numeric)]))
    ]
    if signature.categorical:
        inputs.append((CATEGORICAL_INPUT, StringTensorType([None, len(signature.categorical)])))
    options = {id(fitted.pipeline): {"zipmap": False}}
    graph = convert_sklearn(fitted.pipeline, name="model", initial_types=inputs, target_opset=OPSETS, options=options)
    model: onnx.ModelProto = onnx.ModelProto.FromString(graph.SerializeToString())
    _set_base_margin(model, fitted.pipeline[-1])
    # The graph's only output is the probability of the positive class.
    model.graph.initializer.append(helper.make_tensor("positive_class", TensorProto.INT64, [1], [1]))
    both = model.graph.output[1].name
    model.graph.node.append(helper.make_node("Gather", [both, "positive_class"], [OUTPUT], name="answer", axis=1))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None, 1]))
    # The converter lists the domains in the order of a set: another one in each process.
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(domain, opset) for domain, opset in OPSETS.items())
    return model


def _set_base_margin(model: onnx.ModelProto, trees: XGBClassifier) -> None:
    """Set the base value of the trees' sum, in log odds.

    The converter leaves it as a probability if the first tree is a single leaf of 0, as it is when there was
    nothing to split on.
    """
    config = json.loads(trees.get_booster().save_config())
    base_score = np.float32(json.loads(config["learner"]["learner_model_param"]["base_score"])[0])
    margin = float(-np.log(1 / base_score - np.float32(1)))
    (node,) = (node for node in model.graph.node if node.op_type == "TreeEnsembleClassifier")
    kept = [attribute for attribute in node.attribute if attribute.name != "base_values"]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute("base_values", [margin])])


update_registered_converter(
    XGBClassifier,
    "XGBoostXGBClassifier",
    calculate_linear_classifier_output_shapes,
    convert_xgboost,
    options={"nocl": [True, False], "zipmap": [True, False, "columns"]},
)
