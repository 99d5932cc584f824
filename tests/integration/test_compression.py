"""Distilling, compressing and exporting on a real object store."""

from __future__ import annotations

import json
from datetime import date

import numpy as np
import pytest

from nightshift.core.candidates import RECIPES, STUDENTS
from nightshift.core.estimators import FITTED_MODEL, FittedModel
from nightshift.core.model_package import FULL_PRECISION, MODEL, SIGNATURE
from nightshift.core.onnx_model import Signature, load_session, score
from nightshift.core.training_split import split_training_set
from nightshift.errors import ConfigurationError
from nightshift.io.artifact_store import ArtifactStore
from nightshift.settings import Settings
from nightshift.steps.train import compress, distil, export, fit
from synthetic_training_set import committed, training_table, use_case

PARTITION = date(2020, 1, 20)


def test_every_candidate_is_made_or_says_why_not(settings: Settings, store: ArtifactStore) -> None:
    wide = {"distilled_mlp": {"hidden_layer_sizes": (48, 24), "max_iter": 12, "batch_size": 128}}
    case = use_case(techniques=(*STUDENTS, *RECIPES), parameters={**use_case().training.parameters, **wide})
    table = training_table()
    training_set = committed(store, table, PARTITION, case)
    given = (case, settings, store, PARTITION)
    # Without the linear model: what is made from it cannot be made.
    fitted = [fit.run(*given, training_set=training_set, estimator="xgboost")]
    distilled = [distil.run(*given, training_set=training_set, teachers=fitted, student=s) for s in STUDENTS]
    made = {"fitted": fitted, "distilled": distilled}
    small = [compress.run(*given, training_set=training_set, **made, candidate=c) for c in RECIPES]
    refs = {**made, "compressed": small}
    exported = {c: export.run(*given, **refs, candidate=c) for c in ("xgboost", *STUDENTS, *RECIPES)}

    again = compress.run(*given, training_set=training_set, **made, candidate="xgboost_small")
    assert again in small
    holdout = split_training_set(table, case.label).holdout
    absent = {}
    for candidate, ref in exported.items():
        assert store.manifest(ref).variant == candidate
        if ref.kind == "not_applicable":
            absent[candidate] = json.loads(store.read(ref, "not_applicable.json"))["reason"]
            continue
        manifest = store.manifest(ref)
        model = FittedModel.from_bytes(store.read(manifest.inputs["fitted"][0], FITTED_MODEL))
        signature = Signature.from_json(store.read(ref, SIGNATURE))
        exact = FULL_PRECISION if manifest.parameters["quantized"] else MODEL
        answers = score(load_session(store.read(ref, exact), 1), signature, holdout)
        np.testing.assert_allclose(answers, model.probability(holdout), atol=1e-5)
    assert "made from logistic_regression" in absent["logistic_regression_int8"]
    assert "trees have none" in absent["xgboost_int8"]
    assert store.manifest(exported["distilled_mlp_int8_static"]).parameters["quantized"]
    assert not store.manifest(exported["xgboost_small"]).parameters["quantized"]


def test_names_that_nobody_knows_are_configuration_errors(settings: Settings, store: ArtifactStore) -> None:
    case = use_case()
    training_set = committed(store, training_table(60), PARTITION, case)
    given = (case, settings, store, PARTITION)
    with pytest.raises(ConfigurationError, match="no student"):
        distil.run(*given, training_set=training_set, teachers=[], student="xgboost")
    with pytest.raises(ConfigurationError, match="no recipe"):
        compress.run(*given, training_set=training_set, fitted=[], distilled=[], candidate="xgboost")
    with pytest.raises(ConfigurationError, match="was not made"):
        export.run(*given, fitted=[], distilled=[], compressed=[], candidate="xgboost")
