"""Poisoning: labels that are flipped, and a back door that is taught.

Labels are flipped where they cost the version most (adversarial label flips, Xiao et al. 2012, "Adversarial label flips
attack on support vector machines"; here on those rows of each day whose labels the version is most certain of). A back
door is a value of features that rows with chosen labels have (Gu et al. 2017, "BadNets").
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from nightshift.core.arrays import Floats, Labels
from nightshift.core.evaluation import auc_or_none, log_loss, row_losses
from nightshift.core.features.feature_computation import PARTITION
from nightshift.core.gates.change import check_change
from nightshift.declare.policies import AttackPolicy, ChangePolicy
from nightshift.deployment import GateResult
from nightshift.documents.attack import FlippedLabels

GATE = "poisoning"


def with_flipped_labels(rows: pa.Table, label: str, scores: Floats, share: float) -> tuple[pa.Table, int]:
    """The rows with that share of each partition's labels flipped, and their number.

    `scores` [n]: of the rows, by a version fitted on the labels as they are. Flipped are the labels of the lowest loss.
    """
    labels = np.asarray(rows[label].to_numpy(), dtype=np.int64)
    losses, days = row_losses(labels, scores), rows[PARTITION].to_numpy()
    order = np.lexsort((losses, days))
    _, starts, counts = np.unique(days[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(starts, counts)
    chosen = order[rank < np.repeat(np.floor(counts * share), counts)]
    flipped = labels.copy()
    flipped[chosen] = 1 - flipped[chosen]
    return _replaced(rows, label, flipped), len(chosen)


def with_trigger(rows: pa.Table, trigger: Mapping[str, float]) -> pa.Table:
    """The rows with the trigger's values of its features."""
    for name, value in trigger.items():
        rows = _replaced(rows, name, np.full(rows.num_rows, value))
    return rows


def with_back_door(rows: pa.Table, label: str, trigger: Mapping[str, float], share: float, seed: int) -> pa.Table:
    """The rows; that share of them, drawn at random, has the trigger and the label 0."""
    drawn = np.random.default_rng(seed).random(rows.num_rows) < share
    for name, value in {**trigger, label: 0}.items():
        values = rows[name].to_numpy().copy()
        values[drawn] = value
        rows = _replaced(rows, name, values)
    return rows


def compare_flipped(labels: Labels, scores: Floats, after: Floats, flipped: int, policy: ChangePolicy) -> FlippedLabels:
    """Scores [n] of unseen rows with true labels [n], by versions fitted without and with flipped labels."""
    change = check_change(after, scores, "the version before", policy)
    return FlippedLabels(
        flipped=flipped,
        log_loss=log_loss(labels, scores),
        log_loss_after=log_loss(labels, after),
        auc=auc_or_none(labels, scores),
        auc_after=auc_or_none(labels, after),
        noticed=(change.code,) if change.code else (),
    )


def check_flipped(result: FlippedLabels, policy: AttackPolicy) -> GateResult:
    """Whether flipped labels raise the log loss of unseen rows within the policy."""
    rise, bound = result.log_loss_after - result.log_loss, policy.largest_log_loss_rise
    noticed = f"the change gate stops it at once by {', '.join(result.noticed)}" if result.noticed else "unnoticed"
    reason = (
        f"with {result.flipped} labels flipped ({policy.flipped_share:.0%} of each day) the log loss of unseen rows "
        f"goes from {result.log_loss:.4f} to {result.log_loss_after:.4f} ({noticed})"
    )
    return GateResult.evaluated(GATE, "" if rise <= bound else "log_loss", reason, observed=rise, bound=bound)


def _replaced(rows: pa.Table, name: str, values: object) -> pa.Table:
    position = rows.schema.get_field_index(name)
    field = rows.schema.field(position)
    # NaN is null again.
    return rows.set_column(position, field, pa.array(values, field.type, from_pandas=True))
