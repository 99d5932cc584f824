"""All attacks on a spec: fits it on half of the rows, attacks it, and evaluates the bounds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.core.arrays import Floats, Labels, evenly
from nightshift.core.attacks.evasion import check_lowered, evade, lowered
from nightshift.core.attacks.extraction import check_extraction, extract
from nightshift.core.attacks.membership import check_membership, infer_membership
from nightshift.core.attacks.poisoning import (
    check_flipped,
    compare_flipped,
    with_back_door,
    with_flipped_labels,
    with_trigger,
)
from nightshift.core.features.feature_computation import PARTITION
from nightshift.core.inference.onnx_model import Signature, feed_of, load_session, score, score_feed
from nightshift.core.versions.version import export_version, fit_spec, signature_of_spec
from nightshift.declare.models import ModelSpec
from nightshift.declare.policies import AttackPolicy
from nightshift.declare.use_case import UseCase
from nightshift.deployment import GateResult
from nightshift.documents.attack import AttackedSpec, FlippedLabels, LoweredScores

GATES = ("evasion", "back_door", "poisoning", "extraction", "membership")
EVADING_ROWS = 5_000
"""Unseen rows whose scores evasion and triggers lower, evenly spread."""


@dataclass(frozen=True)
class AttackRows:
    """Rows of the same days: `fitted` to fit on, and `unseen` ones. Both are sorted by partition."""

    fitted: pa.Table
    unseen: pa.Table


def attack_rows(rows: pa.Table, policy: AttackPolicy, seed: int) -> AttackRows:
    """Halves, drawn at random, of the rows of the newest days of the policy.

    `rows`: training rows sorted by partition, one for each prediction.
    """
    if not rows.num_rows:
        return AttackRows(rows, rows)
    newest: date = pc.max(rows[PARTITION]).as_py()
    recent = rows.filter(
        pc.greater(rows[PARTITION], pa.scalar(newest - timedelta(days=policy.days), rows[PARTITION].type))
    )
    drawn = np.random.default_rng(seed).permutation(recent.num_rows)[: policy.rows]
    half = len(drawn) // 2
    fitted, unseen = (recent.take(pa.array(np.sort(part))) for part in (drawn[:half], drawn[half:]))
    return AttackRows(fitted, unseen)


def attack_spec(use_case: UseCase, spec: ModelSpec, rows: AttackRows, *, as_of: date, threads: int) -> AttackedSpec:
    """What the attacks achieve against a spec, and the results of GATES. Three fits; raises as `fit_spec` does."""
    policy, fitted, unseen = use_case.attacks, rows.fitted.num_rows, rows.unseen.num_rows
    if unseen < policy.least_rows:
        reason = f"there are {unseen} unseen rows; {policy.least_rows} are needed"
        gates = tuple(GateResult.not_applicable(gate, "few_rows", reason) for gate in GATES)
        return AttackedSpec(spec=spec, fitted=fitted, unseen=unseen, gates=gates)
    attacked = _Attacked(use_case, spec, rows, as_of, threads)
    evasion, back_door, poisoning = attacked.evasion(), attacked.back_door(), attacked.poisoning()
    extraction = extract(rows.unseen, attacked.scores, attacked.signature, policy.queries, use_case.training.seed)
    membership = infer_membership(
        (attacked.labels(rows.fitted), attacked.version.score(rows.fitted)),
        (attacked.labels(rows.unseen), attacked.scores),
    )
    return AttackedSpec(
        spec=spec,
        fitted=fitted,
        unseen=unseen,
        evasion=evasion,
        back_door=back_door,
        poisoning=poisoning,
        extraction=extraction,
        membership=membership,
        gates=(
            _lowered("evasion", f"at most {policy.most_changes} feasible changes", evasion, policy),
            _lowered("back_door", f"a trigger taught with {policy.trigger_share:.1%} of the rows", back_door, policy),
            check_flipped(poisoning, policy),
            check_extraction(extraction, policy),
            check_membership(membership, policy),
        ),
    )


@dataclass(frozen=True)
class _Version:
    """A fitted spec's graph. `signature`: a student may read fewer features than its spec names."""

    session: Any
    signature: Signature

    def score(self, rows: pa.Table) -> Floats:
        """Scores of rows [n]."""
        return score(self.session, self.signature, rows)


class _Attacked:
    """A spec, its version fitted on rows as they are, and the scores of unseen rows."""

    def __init__(self, use_case: UseCase, spec: ModelSpec, rows: AttackRows, as_of: date, threads: int) -> None:
        self.use_case, self.spec, self.rows, self.as_of, self.threads = use_case, spec, rows, as_of, threads
        self.signature = signature_of_spec(use_case, spec)
        self.version = self.fit(rows.fitted)
        self.scores = self.version.score(rows.unseen)
        self.few = rows.unseen.take(pa.array(evenly(rows.unseen.num_rows, EVADING_ROWS)))

    def fit(self, rows: pa.Table) -> _Version:
        """The spec fitted on rows, exported."""
        label = self.use_case.label
        fitted = fit_spec(self.spec, rows, label, self.signature, as_of=self.as_of, threads=self.threads)
        exported = export_version(fitted)
        return _Version(load_session(exported.graph, self.threads), exported.signature)

    def labels(self, rows: pa.Table) -> Labels:
        """Labels of rows [n]."""
        return np.asarray(rows[self.use_case.label].to_numpy(), dtype=np.int64)

    def evasion(self) -> LoweredScores | None:
        """None if no feasible change is declared."""
        policy, version = self.use_case.attacks, self.version
        if not policy.changes:
            return None
        feed, scorer = feed_of(self.few, version.signature), partial(score_feed, version.session)
        after = evade(scorer, feed, version.signature, policy.changes, policy.most_changes)
        return lowered(scorer(feed), after, self.use_case.decision_threshold)

    def back_door(self) -> LoweredScores | None:
        """The effect of the trigger on the version that was taught it; None if no trigger is declared.

        Compared are scores of the same rows with the trigger, by the versions that were and were not taught it.
        """
        policy = self.use_case.attacks
        if not policy.trigger:
            return None
        seed, label = self.use_case.training.seed, self.use_case.label
        taught = self.fit(with_back_door(self.rows.fitted, label, policy.trigger, policy.trigger_share, seed))
        triggered = with_trigger(self.few, policy.trigger)
        return lowered(self.version.score(triggered), taught.score(triggered), self.use_case.decision_threshold)

    def poisoning(self) -> FlippedLabels:
        """The effect of flipped labels on unseen rows with true labels."""
        policy, label = self.use_case.attacks, self.use_case.label
        certain = self.version.score(self.rows.fitted)
        flipped, count = with_flipped_labels(self.rows.fitted, label, certain, policy.flipped_share)
        after = self.fit(flipped).score(self.rows.unseen)
        return compare_flipped(self.labels(self.rows.unseen), self.scores, after, count, self.use_case.change)


def _lowered(gate: str, what: str, result: LoweredScores | None, policy: AttackPolicy) -> GateResult:
    if result is None:
        return GateResult.not_applicable(gate, "none_declared", "the use case declares none: see AttackPolicy")
    return check_lowered(gate, what, result, policy)
