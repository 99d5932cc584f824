from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from nightshift.core import execution
from nightshift.core.estimators import DEFAULTS, FittedModel, fit_estimator, hyperparameters
from nightshift.core.execution import DEFAULT_EXECUTION, Execution, tune
from nightshift.core.measurement import BATCH_ROWS, measure_native
from nightshift.core.onnx_export import export_onnx
from nightshift.core.onnx_model import ask_in_batches, feed_of, load_session, score
from synthetic_training_set import SIGNATURE, training_split, use_case

SPLIT = training_split()


@cache
def fitted(name: str = "xgboost") -> FittedModel:
    parameters = hyperparameters(name, DEFAULTS, use_case().training.parameters, SPLIT.train.num_rows)
    return fit_estimator(name, SPLIT.train, SPLIT.train_labels, SIGNATURE, parameters, seed=7, threads=2)


@cache
def graph() -> bytes:
    return export_onnx(fitted())


def test_a_session_takes_its_settings_from_an_execution() -> None:
    tuned = Execution("disabled", 2, 64, False)
    options = load_session(graph(), 1, tuned).get_session_options()
    assert options.intra_op_num_threads == 2
    assert not options.enable_cpu_mem_arena
    assert options.graph_optimization_level.name == "ORT_DISABLE_ALL"
    assert Execution(**tuned.to_json()) == tuned


def test_the_tuned_session_answers_bit_for_bit_like_the_untuned_one() -> None:
    tuning = tune(graph(), SIGNATURE, SPLIT.holdout, most_threads=2, budget_seconds=30)
    tuned = load_session(graph(), execution=tuning.execution)
    expected = score(load_session(graph(), execution=DEFAULT_EXECUTION), SIGNATURE, SPLIT.holdout)
    answered = score(tuned, SIGNATURE, SPLIT.holdout, batch_rows=tuning.execution.batch_rows)
    assert answered.tobytes() == expected.tobytes()
    assert tuning.gained >= 1
    tried = [found for found, _ in tuning.measured]
    assert tried[0] == DEFAULT_EXECUTION
    assert len(tried) == len(set(tried))
    for setting in ("graph_optimization", "threads", "batch_rows", "arena"):
        assert len({getattr(found, setting) for found in tried}) > 1
    assert tuning.to_json()["gained"] == tuning.gained


def test_settings_that_answer_otherwise_are_not_taken_however_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    honest, careless = ask_in_batches, {}

    def off_by_a_bit(session: Any, feed: Any, rows: int) -> np.ndarray:
        answer = honest(session, feed, rows)
        return np.nextafter(answer, 1.0) if careless.get(id(session)) else answer

    def load(model: bytes, threads: int = 1, execution: Execution | None = None) -> Any:
        session = load_session(model, threads, execution)
        careless[id(session)] = execution is not None and execution.graph_optimization != "all"
        kept.append(session)
        return session

    kept: list[Any] = []
    monkeypatch.setattr(execution, "ask_in_batches", off_by_a_bit)
    monkeypatch.setattr(execution, "load_session", load)
    monkeypatch.setattr(execution, "_speed", lambda session, feed, tried: 1e9 if careless[id(session)] else 1.0)
    tuning = tune(graph(), SIGNATURE, SPLIT.holdout, most_threads=1, budget_seconds=30)
    assert tuning.execution == DEFAULT_EXECUTION
    assert {speed for found, speed in tuning.measured if found.graph_optimization != "all"} == {None}


def test_the_fastest_setting_is_taken_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = Execution("basic", 2, 1024, False)

    def speed(session: Any, feed: Any, tried: Execution) -> float:
        same = [getattr(tried, name) == getattr(fast, name) for name in fast.to_json()]
        return 100.0 * 1.5 ** sum(same)

    monkeypatch.setattr(execution, "_speed", speed)
    # Trees are no example: on two threads they are added up in another order.
    linear = export_onnx(fitted("logistic_regression"))
    tuning = tune(linear, SIGNATURE, SPLIT.holdout, most_threads=2, budget_seconds=30)
    assert tuning.execution == fast
    assert tuning.gained == pytest.approx(1.5**4)
    monkeypatch.setattr(execution, "_speed", lambda session, feed, tried: 100.0 + 4 * (tried != DEFAULT_EXECUTION))
    assert tune(linear, SIGNATURE, SPLIT.holdout, most_threads=2, budget_seconds=30).execution == DEFAULT_EXECUTION


def test_a_gain_that_does_not_show_again_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Execution] = []

    def speed(session: Any, feed: Any, tried: Execution) -> float:
        asked.append(tried)
        return 100.0 if asked.count(DEFAULT_EXECUTION) < 2 and tried == DEFAULT_EXECUTION else 200.0

    monkeypatch.setattr(execution, "_speed", speed)
    tuning = tune(graph(), SIGNATURE, SPLIT.holdout, most_threads=1, budget_seconds=30)
    assert (tuning.execution, tuning.gained) == (DEFAULT_EXECUTION, 1.0)


def test_nothing_is_tried_when_the_time_is_over() -> None:
    tuning = tune(graph(), SIGNATURE, SPLIT.holdout, most_threads=2, budget_seconds=0)
    assert tuning.execution == DEFAULT_EXECUTION
    assert len(tuning.measured) == 1


def test_asking_in_batches_leaves_the_order_of_the_rows() -> None:
    session, feed = load_session(graph()), feed_of(SPLIT.holdout, SIGNATURE)
    whole = ask_in_batches(session, feed, 10**6)
    np.testing.assert_array_equal(ask_in_batches(session, feed, 7), whole)
    none = {name: values[:0] for name, values in feed.items()}
    assert ask_in_batches(session, none, 7).shape == (0,)


def test_the_native_cost_is_of_xgboost_models_alone() -> None:
    native = measure_native(fitted(), SPLIT.holdout)
    assert native["native_bytes"] == len(fitted().pipeline[-1].get_booster().save_raw("ubj"))
    assert native["native_rows_per_second"] > BATCH_ROWS / 60
    assert measure_native(fitted("logistic_regression"), SPLIT.holdout) == {}
    assert measure_native(replace(fitted(), graph=b""), SPLIT.holdout) == {}
