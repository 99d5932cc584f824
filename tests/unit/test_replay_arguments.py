from __future__ import annotations

import inspect
from collections.abc import Sequence
from datetime import date

import pytest

from nightshift.artifact import ArtifactRef, Manifest
from nightshift.errors import ConfigurationError
from nightshift.io.recorded_chain import RecordedChain
from nightshift.steps.operator.replay import step_arguments


def manifest(step, variant="", partition="2020-01-01", inputs=None, parameters=None):
    name = f"{step}-{variant}-{partition}"
    ref = ArtifactRef(uri=f"s3://b/{name}/", sha256=name, kind=step)
    return Manifest(
        use_case="toy",
        stage="train",
        step=step,
        partition=partition,
        variant=variant,
        ref=ref,
        inputs={key: [m.ref for m in made] for key, made in (inputs or {}).items()},
        parameters=parameters or {},
    )


CURATED = [manifest("publish", partition=f"2020-01-0{day}") for day in (1, 2)]
FEATURES = manifest("publish_features", partition="2020-01-01")
TRAINING_SET = manifest(
    "build_training_set", inputs={"curated": CURATED, "features": [FEATURES]}, parameters={"missing": ["2020-01-03"]}
)
FITS = [manifest("fit", name, inputs={"training_set": [TRAINING_SET]}) for name in ("a", "b")]
EXPORTS = [manifest("export", fit.variant, inputs={"fitted": [fit]}) for fit in FITS]
VERIFIED = [
    manifest("verify", e.variant, inputs={"exported": [e]}, parameters={"candidate": e.variant}) for e in EXPORTS
]
SELECTED = manifest("select_model", inputs={"verified": VERIFIED[::-1]})
MADE = (TRAINING_SET, *FITS, *EXPORTS, *VERIFIED, SELECTED)
CHAIN = RecordedChain(MADE, {m.ref: m for m in (*MADE, *CURATED, FEATURES)})


def arguments(run, of):
    return step_arguments(inspect.signature(run), of, CHAIN)


def test_arguments_of_mapped_steps():
    def verify(use_case, *, training_set: ArtifactRef, fitted: Sequence[ArtifactRef], candidate: str): ...

    assert arguments(verify, VERIFIED[1]) == {
        "training_set": TRAINING_SET.ref,
        "fitted": [fit.ref for fit in FITS],
        "candidate": "b",
    }

    def export(use_case, *, fitted: Sequence[ArtifactRef], distilled: Sequence[ArtifactRef], candidate: str): ...

    # All that were fitted, though only one was used; the variant, where no parameter has the name.
    assert arguments(export, EXPORTS[0]) == {"fitted": [fit.ref for fit in FITS], "distilled": [], "candidate": "a"}


def test_a_list_keeps_the_order_it_was_given_in():
    def select_model(use_case, *, verified: Sequence[ArtifactRef], allow_undecided: bool = False): ...

    assert arguments(select_model, SELECTED) == {"verified": [VERIFIED[1].ref, VERIFIED[0].ref]}


def test_an_argument_nothing_is_known_of():
    def fit(use_case, *, training_set: ArtifactRef, teacher: ArtifactRef): ...

    with pytest.raises(ConfigurationError, match=r"does not say what fit got as 'teacher'"):
        arguments(fit, FITS[0])


def test_pins_are_the_inputs_and_those_of_what_is_rebuilt():
    pins = CHAIN.pins(TRAINING_SET)
    assert pins.published == {
        ("publish", date(2020, 1, 1), ""): CURATED[0].ref,
        ("publish", date(2020, 1, 2), ""): CURATED[1].ref,
        ("publish_features", date(2020, 1, 1), ""): FEATURES.ref,
    }
    assert pins.refused == {("publish", date(2020, 1, 3))}
    assert CHAIN.pins(FITS[0]).published[("build_training_set", date(2020, 1, 1), "")] == TRAINING_SET.ref
    assert {m.step for m in CHAIN.read()} == {"publish", "publish_features"}
