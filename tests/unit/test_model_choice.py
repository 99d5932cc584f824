"""Evaluation, the training set's split, the list of candidates, selection by budget, and the gates."""

from __future__ import annotations

import csv
import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from nightshift.core.promotion import Rival, judge, passed

from nightshift.core.candidate_record import CandidateRecord
from nightshift.core.candidates import (
    ESTIMATORS,
    RECIPES,
    STUDENTS,
    candidates,
    compressed,
    fitted_as,
    mapped_calls,
    students,
)
from nightshift.core.compression.techniques import TECHNIQUES
from nightshift.core.evaluation import area_under_curve, calibration_error, evaluate, log_loss
from nightshift.core.model_selection import select_model
from nightshift.core.pareto_report import pareto_front, render
from nightshift.core.training_split import split_training_set
from nightshift.errors import ConfigurationError, DataContractError
from nightshift.usecase import CompressionBudget, PromotionPolicy
from synthetic_training_set import training_table, use_case

BUDGET = CompressionBudget(largest_auc_loss=0.01, largest_log_loss_increase=0.01, objective="rows_per_second")


def with_both_classes(pairs: list[tuple[int, int]]) -> bool:
    return len({label for label, _ in pairs}) == 2


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20)), min_size=2, max_size=60).filter(with_both_classes))
def test_metrics_agree_with_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    labels = np.array([label for label, _ in pairs])
    probability = np.array([p for _, p in pairs]) / 20
    metrics = evaluate(labels, probability)
    assert metrics["auc"] == pytest.approx(sklearn.metrics.roc_auc_score(labels, probability))
    assert metrics["brier"] == pytest.approx(sklearn.metrics.brier_score_loss(labels, probability))
    clipped = np.clip(probability, np.finfo(np.float32).eps, 1 - np.finfo(np.float32).eps)
    assert metrics["log_loss"] == pytest.approx(sklearn.metrics.log_loss(labels, clipped))


def test_certain_and_wrong_is_dear_but_finite() -> None:
    assert 15 < log_loss(np.array([1, 1]), np.array([0.0, 0.0])) < 17


def test_ties_count_half() -> None:
    assert area_under_curve(np.array([0, 1]), np.array([0.5, 0.5])) == 0.5


def test_calibration_error_is_the_distance_from_what_happens() -> None:
    rng = np.random.default_rng(0)
    probability = rng.uniform(0.1, 0.9, 20_000)
    labels = (rng.random(20_000) < probability).astype(np.int64)
    assert calibration_error(labels, probability) < 0.02
    assert calibration_error(labels, probability + 0.1) == pytest.approx(0.1, abs=0.02)


def test_a_training_set_is_split_by_time() -> None:
    table = training_table(20)
    split = split_training_set(table, "is_late")
    assert split.train.num_rows + split.holdout.num_rows == table.num_rows
    assert max(split.train["partition"].to_pylist()) < min(split.holdout["partition"].to_pylist())


def test_a_holdout_that_is_not_newer_is_refused() -> None:
    table = training_table(20)
    swapped = pa.array(["holdout" if s == "train" else "train" for s in table["split"].to_pylist()])
    with pytest.raises(DataContractError, match="must be newer"):
        split_training_set(table.set_column(table.schema.get_field_index("split"), "split", swapped), "is_late")


@pytest.mark.parametrize("part", ["train", "holdout"])
def test_a_part_with_one_class_or_no_rows_is_refused(part: str) -> None:
    table = training_table(20)
    kept = [
        not (s == part and late)
        for s, late in zip(table["split"].to_pylist(), table["is_late"].to_pylist(), strict=True)
    ]
    with pytest.raises(DataContractError, match=f"The {part} rows"):
        split_training_set(table.filter(pa.array(kept)), "is_late")
    with pytest.raises(DataContractError, match=f"The {part} rows"):
        split_training_set(table.filter(pc.not_equal(table["split"], part)), "is_late")


def test_the_mapped_calls_of_a_training() -> None:
    small = ("distilled_mlp", "distilled_mlp_int8", "xgboost_pruned")
    every = ["logistic_regression", "xgboost", *small]
    assert mapped_calls(use_case(techniques=small)) == {
        "fit": [{"estimator": "logistic_regression"}, {"estimator": "xgboost"}],
        "distil": [{"student": "distilled_mlp"}],
        "compress": [{"candidate": "distilled_mlp_int8"}, {"candidate": "xgboost_pruned"}],
        "export": [{"candidate": name} for name in every],
        "verify": [{"candidate": name} for name in every],
    }


def test_a_recipe_alone_still_needs_what_it_is_made_from() -> None:
    alone = use_case(estimators=("xgboost",), techniques=("distilled_mlp_int8",))
    assert students(alone) == ("distilled_mlp",)
    assert compressed(alone) == ("distilled_mlp_int8",)
    assert candidates(alone) == ("xgboost", "distilled_mlp_int8")
    assert fitted_as("distilled_mlp_int8") == "distilled_mlp"


def test_every_recipe_names_what_there_is() -> None:
    for recipe in RECIPES.values():
        assert recipe.source in (*ESTIMATORS, *STUDENTS)
        assert set(recipe.techniques) <= set(TECHNIQUES) - set(STUDENTS)
    assert set(STUDENTS) <= set(TECHNIQUES)


@pytest.mark.parametrize("policy", [{"estimators": ("forest",)}, {"techniques": ("pruned",)}, {"estimators": ()}])
def test_an_unknown_candidate_is_a_configuration_error(policy: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(ConfigurationError, match="toy names"):
        mapped_calls(use_case(**policy))


TEACHER = CandidateRecord("xgboost", auc=0.76, log_loss=0.45, bytes=1_000_000, rows_per_second=2e5)
LINEAR = CandidateRecord("logistic_regression", auc=0.70, log_loss=0.50, bytes=5_000, rows_per_second=3e6)
SMALL = CandidateRecord("distilled_xgboost", auc=0.757, log_loss=0.453, bytes=60_000, rows_per_second=1.9e6)
NETWORK = CandidateRecord("distilled_mlp", auc=0.752, log_loss=0.458, bytes=33_000, rows_per_second=1.8e6)
TEACHERS = ("logistic_regression", "xgboost")


def test_the_fastest_within_the_budget_wins_and_nearly_as_fast_means_smaller() -> None:
    selection = select_model([LINEAR, TEACHER, SMALL, NETWORK], TEACHERS, BUDGET)
    assert (selection.teacher, selection.winner) == ("xgboost", "distilled_mlp")
    assert "below 0.7600" in selection.reasons["logistic_regression"]
    assert "log loss" in selection.reasons["logistic_regression"]
    assert "only" in selection.reasons["xgboost"]
    assert "1.8 times as large" in selection.reasons["distilled_xgboost"]
    clearly_slower = dataclasses.replace(NETWORK, rows_per_second=1.0e6)
    assert select_model([TEACHER, SMALL, clearly_slower], TEACHERS, BUDGET).winner == "distilled_xgboost"


def test_a_noisy_clock_does_not_change_the_winner() -> None:
    for noise in (0.9, 1.0, 1.1):
        noisy = dataclasses.replace(NETWORK, rows_per_second=NETWORK.rows_per_second * noise)
        assert select_model([TEACHER, SMALL, noisy], TEACHERS, BUDGET).winner == "distilled_mlp"


def test_by_bytes_speed_does_not_matter() -> None:
    slow = dataclasses.replace(NETWORK, rows_per_second=1.0)
    by_bytes = dataclasses.replace(BUDGET, objective="bytes")
    assert select_model([TEACHER, SMALL, slow], TEACHERS, by_bytes).winner == "distilled_mlp"


def test_where_no_student_is_good_enough_the_teacher_wins() -> None:
    strict = dataclasses.replace(BUDGET, largest_auc_loss=0.001)
    assert select_model([LINEAR, TEACHER, SMALL, NETWORK], TEACHERS, strict).winner == "xgboost"


def test_a_student_better_than_the_teacher_is_within_any_budget() -> None:
    better = dataclasses.replace(SMALL, auc=0.8, log_loss=0.40)
    strict = CompressionBudget(largest_auc_loss=0.0, largest_log_loss_increase=0.0, objective="bytes")
    assert select_model([TEACHER, better], TEACHERS, strict).winner == "distilled_xgboost"


def test_refused_and_impossible_candidates_are_out_with_their_reason() -> None:
    refused = dataclasses.replace(NETWORK, refused=("latency: 30 ms",))
    absent = CandidateRecord("xgboost_int8", not_applicable="trees have no products")
    selection = select_model([TEACHER, SMALL, refused, absent], TEACHERS, BUDGET)
    assert selection.winner == "distilled_xgboost"
    assert selection.reasons["distilled_mlp"] == "refused by latency: 30 ms"
    assert "trees have no products" in selection.reasons["xgboost_int8"]


def test_a_refused_teacher_is_still_what_others_are_held_against() -> None:
    refused = dataclasses.replace(TEACHER, refused=("leakage: it has seen the outcome",))
    selection = select_model([LINEAR, refused, SMALL, NETWORK], TEACHERS, BUDGET)
    assert (selection.teacher, selection.winner) == ("xgboost", "distilled_mlp")
    assert "below 0.7600" in selection.reasons["logistic_regression"]


def test_where_all_are_refused_nobody_wins() -> None:
    both = [dataclasses.replace(c, refused=("runtime: no answer",)) for c in (TEACHER, SMALL)]
    assert select_model(both, TEACHERS, BUDGET).winner is None
    assert select_model([], TEACHERS, BUDGET).teacher is None
    assert select_model([SMALL], TEACHERS, BUDGET).winner is None


def test_the_front_has_what_nothing_beats_at_once() -> None:
    beaten = dataclasses.replace(NETWORK, name="beaten", bytes=70_000)
    assert pareto_front([LINEAR, TEACHER, SMALL, beaten]) == {LINEAR.name, TEACHER.name, SMALL.name}
    larger = dataclasses.replace(SMALL, name="larger", bytes=SMALL.bytes + 1)
    assert pareto_front([SMALL, larger]) == {SMALL.name}
    twin = dataclasses.replace(SMALL, name="twin")
    assert pareto_front([SMALL, twin]) == {SMALL.name, "twin"}
    refused = dataclasses.replace(SMALL, refused=("parity_fitted: no",))
    assert pareto_front([refused, larger]) == {"larger"}


def report(records: list[CandidateRecord], native: float | None = 0.3e6) -> dict[str, bytes]:
    selection = select_model(records, TEACHERS, BUDGET)
    return render(
        records,
        selection.reasons,
        selection.winner,
        selection.teacher,
        BUDGET,
        title="Toys <late>",
        native_rows_per_second=native,
        native_bytes=1_565_000 if native else None,
    )


def test_the_report_shows_every_candidate_and_why() -> None:
    absent = CandidateRecord("xgboost_int8", "xgboost", ("int8_dynamic",), not_applicable="trees have no products")
    refused = dataclasses.replace(NETWORK, refused=("latency: 30 ms",))
    files = report([LINEAR, TEACHER, SMALL, refused, absent])
    page = files["pareto.html"].decode()
    assert "Toys &lt;late&gt;" in page
    assert "distilled_xgboost was chosen" in page
    for text in ("trees have no products", "refused by latency: 30 ms", "<svg", "on the Pareto front"):
        assert text in page
    table = list(csv.DictReader(files["pareto.csv"].decode().splitlines()))
    assert [row["name"] for row in table][-1] == "xgboost_int8"
    chosen = next(row for row in table if row["chosen"] == "True")
    assert float(chosen["times_faster"]) == pytest.approx(1.9e6 / 0.3e6)
    assert float(chosen["auc_lost"]) == pytest.approx(0.003)
    assert files == report([LINEAR, TEACHER, SMALL, refused, absent])


def test_the_report_can_be_made_where_nobody_won_or_nothing_was_boosted() -> None:
    assert (
        b"No candidate may be chosen"
        in report([dataclasses.replace(TEACHER, refused=("runtime: no answer",))])["pareto.html"]
    )
    assert b"was chosen" in report([LINEAR], native=None)["pareto.html"]
    assert b"No candidate was measured" in report([])["pareto.html"]


def test_a_record_is_read_from_a_verification() -> None:
    holdout = {"auc": 0.7, "log_loss": 0.5, "brier": 0.2, "calibration_error": 0.01}
    verification = {
        "candidate": "distilled_mlp_int8",
        "holdout": holdout,
        "worst_slice": {"column": "carrier", "value": "ZZ", "log_loss": 0.6},
        "disagreement": {"mean": 0.02},
        "bytes": 1000,
    }
    record = CandidateRecord.from_verification(verification, {"rows_per_second": 1e6, "peak_memory_mb": 70.0})
    assert (record.source, record.techniques) == ("distilled_mlp", ("int8_dynamic",))
    assert (record.worst_slice, record.worst_slice_log_loss, record.disagreement) == ("carrier=ZZ", 0.6, 0.02)
    assert (record.rows_per_second, record.peak_memory_mb) == (1e6, 70.0)
    assert record.single_row_p50_ms != record.single_row_p50_ms
    assert record.eligible
    absent = CandidateRecord.from_verification({"candidate": "xgboost_int8", "not_applicable": "trees"}, {})
    assert absent.not_applicable == "trees"
    assert not absent.eligible


POLICY = PromotionPolicy(margin_log_loss=0.002, least_auc=0.6)
CHAMPION = Rival("champion", "2013-05-01-aaaaaaaa", 0.450)
NO_FALLBACK = Rival("fallback", absence="there was no fallback as of this partition")


@pytest.mark.parametrize(("loss", "verdict"), [(0.40, "pass"), (0.4519, "pass"), (0.4521, "fail")])
def test_no_worse_than_the_champion_by_more_than_the_margin(loss: float, verdict: str) -> None:
    gates = {gate.gate: gate for gate in judge(0.7, loss, [CHAMPION, NO_FALLBACK], POLICY)}
    assert gates["no_worse_than_champion"].verdict == verdict
    assert gates["no_worse_than_champion"].bound == pytest.approx(0.452)
    assert "2013-05-01-aaaaaaaa" in gates["no_worse_than_champion"].reason
    assert gates["no_worse_than_fallback"].verdict == "not applicable"
    assert "no fallback" in gates["no_worse_than_fallback"].reason
    assert passed(list(gates.values())) == (verdict == "pass")


def test_a_model_that_cannot_rank_is_rejected_whoever_is_in_service() -> None:
    gates = judge(0.59, 0.1, [NO_FALLBACK], POLICY)
    assert [gate.verdict for gate in gates] == ["fail", "not applicable"]
    assert not passed(gates)
