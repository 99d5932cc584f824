"""Backtests of a use case: finds the specs, walks them over the same rows, and compares them."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from datetime import date
from typing import Literal

import pyarrow as pa
from pydantic import ValidationError

from nightshift.core.backtest.figures import difference, partition_losses, series, slices
from nightshift.core.backtest.walk import FROZEN, History, Plan, Walk, share, walk_forward
from nightshift.core.lifecycle.state import State
from nightshift.core.versions.version import signature_of_spec
from nightshift.declare.models import ModelSpec
from nightshift.declare.use_case import UseCase
from nightshift.documents.backtest import BacktestResult, BacktestSeries, PairedDifference
from nightshift.errors import ConfigurationError

log = logging.getLogger(__name__)

ROWS_FOR_PROCESSES = 20_000
"""With fewer rows one process is used: others take seconds to start."""


def find_spec(use_case: UseCase, recorded: Mapping[str, ModelSpec], text: str) -> ModelSpec:
    """The spec that `text` names by name or id, among those declared and those `recorded`, or states as JSON.

    Of several specs of one name a declared one is taken, else the last one recorded. Raises ConfigurationError if
    there is none or the JSON is invalid.
    """
    if text.lstrip().startswith("{"):
        try:
            return ModelSpec.model_validate_json(text)
        except ValidationError as error:
            raise ConfigurationError("NS-BACKTEST-010", f"Not a valid spec: {error}") from None
    known_specs = {**recorded, **use_case.specs}
    if text in known_specs:
        return known_specs[text]
    matches = [spec for spec in known_specs.values() if spec.name == text]
    if matches:
        return matches[-1]
    raise ConfigurationError(
        "NS-BACKTEST-011",
        f"{use_case.name} has no spec {text!r}; available are {sorted(known_specs)}. Or write one as JSON.",
    )


def champion_spec(use_case: UseCase, state: State) -> ModelSpec:
    """The champion's spec, the declared one if there is none yet. Raises ConfigurationError if it is not recorded."""
    champion = state.specs.get(state.champion) if state.champion else use_case.champion
    if champion is None:
        raise ConfigurationError(
            "NS-BACKTEST-012", f"{use_case.name}: deployments has no spec for the champion {state.champion}."
        )
    return champion


def walk_specs(
    use_case: UseCase,
    rows: pa.Table,
    state: State,
    specs: Sequence[ModelSpec],
    *,
    partition: date,
    first: date,
    last: date,
    refit_every: int,
    threads: int,
    missing: Mapping[str, str] | None = None,
) -> tuple[BacktestResult, pa.Table]:
    """Walk champion, fallback and these specs over the same rows; returns the result and the losses by partition.

    `rows`: all training rows known by `partition`, with every delivery of a label. Raises as `walk_forward` does.
    """
    champion, fallback = champion_spec(use_case, state), use_case.fallback
    history = History.of(rows, use_case.key_columns, use_case.label)
    walks: dict[str, list[Walk]] = {}
    # A daemonic process may not have children.
    in_processes = threads > 1 and rows.num_rows >= ROWS_FOR_PROCESSES and not multiprocessing.current_process().daemon
    with _pool(history, threads if in_processes else 1) as pool:
        for spec in {spec.spec_id: spec for spec in (champion, fallback, *specs)}.values():
            plan = Plan(
                spec,
                signature_of_spec(use_case, spec),
                first=first,
                last=last,
                refit_every=refit_every,
                minimum_days=use_case.training.minimum_days,
                threads=1 if in_processes else threads,
                frozen=spec.spec_id != fallback.spec_id,
            )
            walks[spec.spec_id] = walk_forward(history, plan, pool)
            log.info("%s: walked %s from %s to %s", use_case.name, spec.spec_id, first, last)
    features = history.features(history.between(first, last))
    policy = use_case.promotion
    figures = [
        one
        for spec_id in walks
        for one in _series(use_case, walks, spec_id, champion.spec_id, fallback.spec_id, features)
    ]
    result = BacktestResult(
        partition=partition,
        first=first,
        last=last,
        refit_every=refit_every,
        block_days=policy.block_days,
        confidence=policy.confidence,
        champion=champion.spec_id,
        fallback=fallback.spec_id,
        missing=missing or {},
        series=tuple(figures),
    )
    return result, partition_losses([walk for spec_walks in walks.values() for walk in spec_walks])


def _series(
    use_case: UseCase,
    walks: Mapping[str, Sequence[Walk]],
    spec_id: str,
    champion: str,
    fallback: str,
    features: pa.Table,
) -> Iterator[BacktestSeries]:
    policy, seed = use_case.promotion, use_case.training.seed
    others = {"champion": walks[champion][0], "fallback": walks[fallback][0]}
    role: Literal["champion", "fallback", "challenger"] = (
        "champion" if spec_id == champion else "fallback" if spec_id == fallback else "challenger"
    )

    def compared(walk: Walk, others: Mapping[str, Walk]) -> dict[str, PairedDifference]:
        return {
            name: difference(walk, other, block_days=policy.block_days, confidence=policy.confidence, seed=seed)
            for name, other in others.items()
            if other is not walk
        }

    refitted, *baselines = walks[spec_id]
    own = others | {walk.baseline: walk for walk in baselines if walk.baseline == FROZEN[0]}
    other = None if spec_id == champion else others["champion"]
    by_slice = slices(refitted, other, features, use_case.slices, block_days=policy.block_days)
    yield series(refitted, role, compared(refitted, own), by_slice)
    for walk in baselines:
        yield series(walk, role, compared(walk, others))


@contextmanager
def _pool(history: History, processes: int) -> Iterator[Executor | None]:
    """An executor whose processes hold the history; None for one process, which is this one."""
    if processes == 1:
        yield None
        return
    # Spawned: a fork is unsafe while threads of OpenMP and Arrow run.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=share, initargs=(history,)) as pool:
        yield pool
