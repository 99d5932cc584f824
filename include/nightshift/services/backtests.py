"""Backtests of a use case: which specs, on which rows, compared with what."""

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
from nightshift.core.models.version import signature_of_spec
from nightshift.declare.models import ModelSpec
from nightshift.declare.use_case import UseCase
from nightshift.documents import BacktestResult, BacktestSeries, PairedDifference
from nightshift.errors import ConfigurationError

log = logging.getLogger(__name__)

ROWS_FOR_PROCESSES = 20_000
"""Fewer rows than this are walked in one process: others take seconds to start."""


def find_spec(use_case: UseCase, recorded: Mapping[str, ModelSpec], text: str) -> ModelSpec:
    """A spec by name or id, among those declared and those `recorded` by searches and decisions, or written as JSON.

    Of several specs of one name a declared one is taken, else the last one recorded. Raises ConfigurationError.
    """
    if text.lstrip().startswith("{"):
        try:
            return ModelSpec.model_validate_json(text)
        except ValidationError as error:
            raise ConfigurationError(f"This is no spec: {error}") from None
    known = {**recorded, **use_case.specs}
    if text in known:
        return known[text]
    named = [spec for spec in known.values() if spec.name == text]
    if named:
        return named[-1]
    raise ConfigurationError(f"{use_case.name} has no spec {text!r}; known are {sorted(known)}. Or write one as JSON.")


def specs_in_service(use_case: UseCase, state: State) -> tuple[ModelSpec, ModelSpec]:
    """The champion's spec, the declared one while there is none, and the declared fallback."""
    champion = state.specs.get(state.champion) if state.champion else use_case.champion
    if champion is None:
        raise ConfigurationError(
            f"{use_case.name}: deployments does not say what the champion {state.champion} declares."
        )
    return champion, use_case.fallback


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
    """Walk champion, fallback and these specs over the same rows; the result and the losses by partition.

    `rows`: training rows known by `partition`, every label of each. Raises as `walk_forward` does.
    """
    champion, fallback = specs_in_service(use_case, state)
    history = History.of(rows, use_case.key_columns, use_case.label)
    walks: dict[str, list[Walk]] = {}
    # A daemon may have no child processes.
    side_by_side = threads > 1 and rows.num_rows >= ROWS_FOR_PROCESSES and not multiprocessing.current_process().daemon
    with _pool(history, threads if side_by_side else 1) as pool:
        for spec in {spec.spec_id: spec for spec in (champion, fallback, *specs)}.values():
            plan = Plan(
                spec,
                signature_of_spec(use_case, spec),
                first=first,
                last=last,
                refit_every=refit_every,
                minimum_days=use_case.training.minimum_days,
                threads=1 if side_by_side else threads,
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
    return result, partition_losses([walk for found in walks.values() for walk in found])


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
    """Processes that hold the history; None for one process, which is this one."""
    if processes == 1:
        yield None
        return
    # Spawned: this process may hold threads of OpenMP and Arrow, which a fork does not survive.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=share, initargs=(history,)) as pool:
        yield pool
