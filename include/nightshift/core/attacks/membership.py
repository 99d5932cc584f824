"""Membership inference: whether a row was fitted on, told by its loss.

The threshold attack of Yeom et al. 2018, "Privacy risk in machine learning"; its success also where it is most certain,
as Carlini et al. 2022, "Membership inference attacks from first principles", ask for. Both kinds of rows are of the
same days, so that drift is not taken for membership.
"""

from __future__ import annotations

import numpy as np

from nightshift.core.arrays import Floats, Labels
from nightshift.core.evaluation import area_under_curve, row_losses
from nightshift.declare.policies import AttackPolicy
from nightshift.deployment import GateResult
from nightshift.documents.attack import Membership

GATE = "membership"


def infer_membership(fitted: tuple[Labels, Floats], unseen: tuple[Labels, Floats]) -> Membership:
    """Labels and scores of rows that were fitted on, and of unseen ones: how well their losses tell them apart."""
    inside, outside = row_losses(*fitted), row_losses(*unseen)
    member = np.repeat(np.array([1, 0]), [len(inside), len(outside)])
    return Membership(
        fitted=len(inside),
        unseen=len(outside),
        auc=area_under_curve(member, -np.concatenate([inside, outside])),
        found_at_1_percent=float((inside < np.quantile(outside, 0.01)).mean()),
    )


def check_membership(result: Membership, policy: AttackPolicy) -> GateResult:
    """Whether the losses tell rows apart no better than the policy allows."""
    bound = policy.largest_membership_auc
    reason = (
        f"the loss ranks {result.fitted} rows that were fitted on before {result.unseen} unseen ones with an AUC of "
        f"{result.auc:.3f}, and finds {result.found_at_1_percent:.1%} of them at 1% false alarms"
    )
    rule = "" if result.auc <= bound else "auc"
    return GateResult.evaluated(GATE, rule, reason, observed=result.auc, bound=bound)
