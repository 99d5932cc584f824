"""Candidate specs, the additive estimator, races over origins, and what is selected from them."""

from __future__ import annotations

import csv
import dataclasses
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest

from nightshift.artifact import canonical_json
from nightshift.core.compression.techniques import TECHNIQUES
from nightshift.core.evaluation import area_under_curve
from nightshift.core.gates.parity import probe_rows
from nightshift.core.inference.onnx_model import load_session, score
from nightshift.core.models.estimators import DEFAULTS
from nightshift.core.models.preprocessing import PiecewiseLinearScaler
from nightshift.core.search.candidates import RECIPES, STUDENTS, candidate_specs
from nightshift.core.search.race import partition_scores, race_origins, run_race, scored_partitions
from nightshift.core.search.selection import compare
from nightshift.core.versions.version import SharedFits, export_version, fit_spec, signature_of_spec
from nightshift.declare.models import ModelSpec
from nightshift.declare.policies import CompressionBudget, PromotionPolicy, SearchPolicy
from nightshift.declare.use_case import UseCase
from nightshift.documents.search import (
    Candidates,
    CandidateSpec,
    PartitionScore,
    Race,
    RacedSpec,
    RaceOrigin,
    StudyFold,
    StudyOfEstimator,
    StudyResult,
)
from nightshift.errors import ConfigurationError, DataContractError, NotApplicable
from nightshift.reports.search import render
from support.errors import raises_code
from support.synthetic_training_set import FIRST, training_table, use_case

TABLE = training_table()
AS_OF = FIRST + timedelta(days=20)
SEARCH = SearchPolicy(origins=2, origin_days=3)
TECHNIQUES_WANTED = ("distilled_additive", "distilled_mlp_int8", "xgboost_pruned", "xgboost_int8")


def case() -> UseCase:
    return dataclasses.replace(use_case(techniques=TECHNIQUES_WANTED, minimum_days=10), search=SEARCH)


def rows() -> pa.Table:
    return TABLE.drop_columns(["split"])


# Candidates


def test_policy_is_expanded_into_specs() -> None:
    specs = {spec.name: spec for spec in candidate_specs(case(), (), {})}
    assert list(specs) == ["logistic_regression", "xgboost", "additive", *TECHNIQUES_WANTED]
    assert specs["additive"].estimators == ("additive",)
    both = ("logistic_regression", "xgboost")
    assert (specs["distilled_mlp_int8"].estimators, specs["distilled_mlp_int8"].compression) == (
        both,
        ("distilled_mlp", "int8_dynamic"),
    )
    assert (specs["xgboost_pruned"].estimators, specs["xgboost_pruned"].compression) == (
        ("xgboost",),
        ("prune_trees", "clean_up"),
    )
    assert set(specs["xgboost_pruned"].parameters) == {"xgboost"}


def test_settings_of_a_study_are_one_more_candidate() -> None:
    (tuned,) = (s for s in candidate_specs(case(), (), {"xgboost": {"max_depth": 2}}) if s.name == "xgboost_tuned")
    assert tuned.parameters["xgboost"] == {**case().training.parameters["xgboost"], "max_depth": 2}


def test_a_declared_spec_replaces_its_twin() -> None:
    declared = case().champion
    specs = candidate_specs(case(), (declared, declared), {})
    assert specs[0] == declared
    assert "xgboost" not in {spec.name for spec in specs}
    assert len({spec.spec_id for spec in specs}) == len(specs)


@pytest.mark.parametrize(
    ("policy", "code", "named"),
    [
        ({"estimators": ("forest",)}, "NS-SEARCH-002", "forest"),
        ({"techniques": ("pruned",)}, "NS-SEARCH-002", "pruned"),
        ({"estimators": ()}, "NS-SEARCH-001", "toy"),
    ],
)
def test_an_unknown_candidate_is_a_configuration_error(
    policy: dict[str, tuple[str, ...]], code: str, named: str
) -> None:
    with raises_code(ConfigurationError, code, named):
        candidate_specs(use_case(**policy), (), {})


def test_every_recipe_names_known_techniques() -> None:
    for source, *techniques in RECIPES.values():
        assert source in (*DEFAULTS, *STUDENTS)
        assert set(techniques) <= set(TECHNIQUES) - set(STUDENTS)
    assert set(STUDENTS) <= set(TECHNIQUES)


# Fits


def test_shared_fits_equal_fits_of_one_spec() -> None:
    specs = candidate_specs(case(), (case().fallback,), {})
    fits = SharedFits(TABLE, "is_late", as_of=AS_OF, threads=1)
    compared = []
    for spec in specs:
        signature = signature_of_spec(case(), spec)
        try:
            alone = fit_spec(spec, TABLE, "is_late", signature, as_of=AS_OF, threads=1)
        except NotApplicable:
            continue
        assert export_version(fits.fit(spec, signature)).graph == export_version(alone).graph, spec.name
        compared.append(spec.name)
    assert {"fallback", "additive", "distilled_additive", "xgboost_pruned"} <= set(compared)


def test_shared_fits_keep_windows_and_weights_apart() -> None:
    plain = ModelSpec(name="plain", estimators=("logistic_regression",))
    fits = SharedFits(TABLE, "is_late", as_of=AS_OF, threads=1)
    variants = [plain, plain.model_copy(update={"window_days": 5}), plain.model_copy(update={"half_life_days": 3.0})]
    graphs = {export_version(fits.fit(spec, signature_of_spec(case(), spec))).graph for spec in variants}
    assert len(graphs) == 3


@pytest.mark.parametrize("half_life", [None, 5.0])
def test_additive_on_labels_is_exported_exactly(half_life: float | None) -> None:
    spec = ModelSpec(name="additive", estimators=("additive",), half_life_days=half_life)
    fitted = fit_spec(spec, TABLE, "is_late", signature_of_spec(case(), spec), as_of=AS_OF, threads=1)
    assert isinstance(fitted.pipeline[0].named_transformers_["numeric"], PiecewiseLinearScaler)
    probes = probe_rows(TABLE, fitted.signature).rows
    exported = score(load_session(export_version(fitted).graph), fitted.signature, probes)
    assert np.abs(exported - fitted.probability(probes)).max() < 1e-5
    assert area_under_curve(TABLE["is_late"].to_numpy(), fitted.probability(TABLE)) > 0.7


def test_additive_penalty_means_the_same_as_the_students() -> None:
    labels = ModelSpec(name="a", estimators=("additive",))
    student = ModelSpec(name="b", estimators=("additive",), compression=("distilled_additive",))
    models = [
        fit_spec(spec, TABLE, "is_late", signature_of_spec(case(), spec), as_of=AS_OF, threads=1)
        for spec in (labels, student)
    ]
    # A student of the additive model shrinks it once more, by as much as the same penalty does.
    norms = [float(np.linalg.norm(np.ravel(model.pipeline[-1].coef_))) for model in models]
    assert 0.5 < norms[1] / norms[0] <= 1.0


# Races


def test_origins_leave_enough_history_before_them() -> None:
    origins = race_origins(rows(), SEARCH, 10)
    assert origins == [FIRST + timedelta(days=n) for n in (13, 16)]
    assert scored_partitions(origins[-1], SEARCH)[-1] == max(TABLE["partition"].to_pylist())
    with raises_code(DataContractError, "NS-SEARCH-003", "needs 21"):
        race_origins(rows(), SEARCH, 14)


def plan(measured: bool = False) -> RaceOrigin:
    origin = race_origins(rows(), SEARCH, 10)[0]
    specs = candidate_specs(case(), (case().champion,), {})
    return RaceOrigin(
        origin=origin,
        scored=scored_partitions(origin, SEARCH),
        measured=measured,
        baseline=case().champion.spec_id,
        specs=specs,
    )


def test_a_race_scores_later_partitions_only() -> None:
    race = run_race(case(), plan(), rows(), AS_OF, threads=1)
    by_name = {one.spec.name: one for one in race.specs}
    assert by_name["xgboost_int8"].not_applicable.startswith("NS-MODEL-014: int8_dynamic")
    assert [s.partition for s in by_name["additive"].scores] == list(plan().scored)
    assert all(one.rows_per_second is None for one in race.specs)
    # What became known after the origin changes no model.
    unseen = rows()
    flipped = [
        1 - label if known > plan().origin else label
        for label, known in zip(unseen["is_late"].to_pylist(), unseen["known_on"].to_pylist(), strict=True)
    ]
    unseen = unseen.set_column(unseen.column_names.index("is_late"), "is_late", pa.array(flipped, pa.int64()))
    again = run_race(case(), plan(), unseen, AS_OF, threads=1)
    for one, other in zip(race.specs, again.specs, strict=True):
        for before, after in zip(one.scores, other.scores, strict=True):
            assert before.auc == pytest.approx(1 - after.auc)


def test_costs_are_measured_at_the_newest_origin() -> None:
    race = run_race(case(), plan(measured=True), rows(), AS_OF, threads=1)
    fitted = [one for one in race.specs if not one.not_applicable]
    assert all(one.rows_per_second and one.bytes for one in fitted)
    assert race.native["native_bytes"] > 0


def test_partitions_of_one_class_have_no_auc() -> None:
    table = pa.table({"partition": pa.array([FIRST, FIRST], pa.date32()), "is_late": pa.array([0, 0])})
    (one,) = partition_scores(table, "is_late", np.array([0.1, 0.2]))
    assert one.auc is None
    assert one.log_loss > 0


# Selection

BUDGET = CompressionBudget(largest_auc_loss=0.05, largest_log_loss_increase=0.05)
POLICY = PromotionPolicy(confidence=0.9, block_days=3)
NOISE = np.random.default_rng(1).normal(0, 0.02, 42)


def spec(name: str) -> ModelSpec:
    return ModelSpec(name=name, estimators=("xgboost",))


def raced(name: str, loss: float, noise: float, speed: float, size: int) -> list[RacedSpec]:
    """One spec at each of six origins: losses around `loss` with noise of its own."""
    own = np.random.default_rng(len(name)).normal(0, noise, 42)
    own = loss + NOISE + own - own.mean()
    return [
        RacedSpec(
            spec=spec(name),
            scores=tuple(
                PartitionScore(partition=FIRST + timedelta(days=7 * origin + n), rows=100, log_loss=value, auc=0.7)
                for n, value in enumerate(own[7 * origin : 7 * origin + 7])
            ),
            bytes=size,
            rows_per_second=speed,
        )
        for origin in range(6)
    ]


def races(*specs: list[RacedSpec]) -> list[Race]:
    return [
        Race(origin=FIRST + timedelta(days=7 * n), baseline=spec("best").spec_id, specs=tuple(own[n] for own in specs))
        for n in range(6)
    ]


BEST = raced("best", 0.500, 0.001, 1e6, 100_000)
TWIN = raced("cheap_twin", 0.5004, 0.004, 5e6, 3_000)
WORSE = raced("fast_but_worse", 0.510, 0.004, 9e6, 1_000)


def test_a_tie_goes_to_the_cheaper_and_quality_comes_first() -> None:
    compared = compare(races(BEST, TWIN, WORSE), BUDGET, POLICY)
    found = {one.spec.name: one for one in compared.specs}
    assert compared.best == spec("best").spec_id
    assert compared.chosen == spec("cheap_twin").spec_id
    assert (found["best"].contends, found["cheap_twin"].contends) == (True, True)
    assert not found["fast_but_worse"].contends
    assert [one.on_front for one in compared.specs] == [True, True, False]


def test_differences_are_paired_by_partition() -> None:
    # Between partitions losses vary by 0.02; the difference itself is steady, so a small one is shown.
    steady = raced("steadily_worse", 0.502, 0.0005, 9e6, 1_000)
    compared = compare(races(BEST, steady), BUDGET, POLICY)
    assert compared.chosen == spec("best").spec_id
    low, high = compared.specs[1].interval
    assert 0 < low < 0.002 < high


def test_noise_does_not_excuse_a_loss_beyond_the_budget() -> None:
    noisy = raced("noisy", 0.56, 0.5, 9e6, 1_000)
    compared = compare(races(BEST, noisy), BUDGET, POLICY)
    # By the interval it might be as good.
    assert compared.specs[1].interval[0] < 0
    assert not compared.specs[1].contends
    assert compared.chosen == spec("best").spec_id


def test_nearly_as_fast_means_the_smaller_one() -> None:
    smaller = raced("a_little_slower", 0.5002, 0.004, 4.5e6, 1_000)
    assert compare(races(BEST, TWIN, smaller), BUDGET, POLICY).chosen == spec("a_little_slower").spec_id
    by_bytes = dataclasses.replace(BUDGET, objective="bytes")
    slow = raced("slow_and_small", 0.5002, 0.004, 10.0, 10)
    assert compare(races(BEST, TWIN, slow), by_bytes, POLICY).chosen == spec("slow_and_small").spec_id


def test_a_spec_missing_at_one_origin_is_out() -> None:
    absent = [*TWIN[:5], RacedSpec(spec=spec("cheap_twin"), not_applicable="trees have no products")]
    compared = compare(races(BEST, absent), BUDGET, POLICY)
    assert compared.specs[1].reason == "not applicable: trees have no products"
    with raises_code(DataContractError, "NS-SEARCH-005"):
        compare(races(absent), BUDGET, POLICY)


def test_the_page_shows_specs_costs_and_the_study() -> None:
    compared = compare(races(BEST, TWIN, WORSE), BUDGET, POLICY)
    day = date(2020, 3, 1)
    front = [one.spec for one in compared.specs if one.on_front]
    candidates = Candidates(
        partition=day,
        specs=tuple(CandidateSpec(spec=s, chosen=False, failed=("latency: 30 ms",)) for s in front),
    )
    outcome = StudyOfEstimator(
        in_use={"max_depth": 6},
        in_use_log_loss=0.5,
        best={"max_depth": 2},
        best_log_loss=0.4,
        trials=(0.5, None, 0.4),
        importance={"max_depth": 1.0},
    )
    study = StudyResult(
        partition=day,
        last=day,
        folds=(StudyFold(first=day, last=day, train_rows=9, rows=1),),
        estimators={"xgboost": outcome},
    )
    files = render(compared, candidates, study, BUDGET, title="Toys <late>")
    page = files["search.html"].decode()
    for text in ("Toys &lt;late&gt;", "cheap_twin is chosen", "latency: 30 ms", "max_depth 100%", "<svg"):
        assert text in page
    table = list(csv.DictReader(files["search.csv"].decode().splitlines()))
    assert [row["name"] for row in table] == ["best", "cheap_twin", "fast_but_worse"]
    assert files == render(compared, candidates, study, BUDGET, title="Toys <late>")
    assert canonical_json(compared.model_dump(mode="json"))
