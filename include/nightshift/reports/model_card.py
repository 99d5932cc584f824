"""A model card as one self-contained HTML page: what a version is for, how good it is, and its limits.

The content follows Mitchell et al. 2019, "Model Cards for Model Reporting". It is read from the records of other
steps; nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nightshift.artifact import Manifest
from nightshift.core.gates.risk import Demands
from nightshift.core.models.explanations import Explanation
from nightshift.declare.use_case import UseCase
from nightshift.deployment import GateResult
from nightshift.documents.train import CalibrationBin, ModelCard, Registration, SliceQuality, TrainingSet, Verification
from nightshift.reports.page import GREY, ORANGE, new_axes, percent, render_page, style, svg

FEATURES_SHOWN = 15
LARGEST_SCORE = 25
A_YEAR = 364
HEADLINES = {"registered": ("Registered", "good"), "rejected": ("Rejected", "bad")}
QUALITY = (
    ("auc", "AUC"),
    ("log_loss", "Log loss"),
    ("brier", "Brier score"),
    ("calibration_error", "Calibration error"),
)


@dataclass(frozen=True)
class Records:
    """The records of a version.

    `version` is its manifest, `gates` every gate's result with what was measured, `others` the pages of the
    partition's other versions by spec id. `explanation`: None if there is none.
    """

    entry: Registration.Entry
    version: Manifest
    training_set: TrainingSet
    card: ModelCard
    verification: Verification
    gates: Sequence[GateResult]
    demands: Demands
    explanation: Explanation | None
    others: Mapping[str, str]


def render(use_case: UseCase, records: Records) -> bytes:
    """The card as HTML bytes. Equal records give equal bytes within one version of matplotlib."""
    headline, tone = HEADLINES[records.entry.action]
    card, verification, explanation = records.card, records.verification, records.explanation
    mandatory, holdout = records.demands.mandatory, verification.holdout
    page = {
        "headline": headline,
        "tone": tone,
        "risks": sorted(use_case.risk.risks, key=lambda risk: -risk.score),
        "demanded": _demanded(use_case, records),
        "spec": card.spec.model_dump_json(indent=1),
        "quality": [(name, getattr(holdout, key)) for key, name in QUALITY] if holdout else [],
        "calibration": _calibration(verification.calibration) if verification.calibration else "",
        "explained": _explained(explanation) if explanation else "",
        "rest": explanation.features[FEATURES_SHOWN:] if explanation else (),
        "slices": _slices(verification.slices),
        "confidence": f"{use_case.slices.confidence:.0%}",
        "gates": [{**gate.model_dump(), "mandatory": gate.gate in mandatory} for gate in records.gates],
        "parts": [("fitted on", card.fitted_on), ("measured on (holdout)", card.measured_on)],
        "limits": [card.limits, *_limits(records)],
    }
    return render_page("model_card.html.j2", use_case=use_case, records=records, page=page)


def _demanded(use_case: UseCase, records: Records) -> str:
    policy, demands = use_case.risk, records.demands
    if not policy.risks:
        return "The use case declares no risks. Gates that hold for every version are mandatory."
    total = len(records.gates)
    every = demands.score >= policy.every_gate_from
    gates = f"every one of the {total} gates is" if every else f"{len(demands.mandatory)} of the {total} gates are"
    approve = (
        "A person must approve a spec before it becomes champion; new versions of it need no approval."
        if demands.approval
        else f"No approval is required (it is from a score of {policy.approval_from} on)."
    )
    return f"The highest score is {demands.score} of {LARGEST_SCORE}: {gates} mandatory. {approve}"


def _slices(slices: Sequence[SliceQuality]) -> list[dict[str, object]]:
    """Slices by column, the largest loss first, with the positions of their intervals on a common scale."""
    large = [one for one in slices if one.verdict == "judged"]
    most = max((one.log_loss_high for one in large), default=1.0)
    columns = list(dict.fromkeys(one.column for one in slices))
    rows = []
    for one in sorted(slices, key=lambda s: (columns.index(s.column), s.verdict != "judged", -s.log_loss)):
        low, high = (round(100 * min(value / most, 1), 1) for value in (one.log_loss_low, one.log_loss_high))
        mark = round(100 * min(one.log_loss / most, 1), 1)
        rows.append({**dict(one), "left": low, "width": round(high - low, 1), "mark": mark})
    return rows


def _limits(records: Records) -> list[str]:
    """Limits of the version and of its records, one sentence each."""
    limits = []
    first, last = records.card.fitted_on.first_partition, records.card.fitted_on.last_partition
    if (last - first).days < A_YEAR:
        limits.append(f"Fitted on {first} to {last}, less than a year: it has not seen every season.")
    slices = records.verification.slices
    small = [f"{one.column} {one.value}" for one in slices if one.verdict != "judged"]
    if small:
        limits.append(f"Too few holdout rows or days to say how good it is for: {', '.join(small)}.")
    if not slices:
        limits.append("There are no slices: the quality on parts of the rows is unknown.")
    mandatory = records.demands.mandatory
    failed = [gate.gate for gate in records.gates if gate.verdict == "fail" and gate.gate not in mandatory]
    if failed:
        limits.append(f"It failed gates that the declared risks do not make mandatory: {', '.join(failed)}.")
    not_applicable = [gate.gate for gate in records.gates if gate.verdict == "not applicable"]
    if not_applicable:
        limits.append(f"Not applicable, for the reasons in the table of gates: {', '.join(not_applicable)}.")
    limits.append("Metrics are of scores before calibration, which is updated for every partition.")
    return limits


def _calibration(bins: Sequence[CalibrationBin]) -> str:
    """Plot the observed rate over the mean score of each bin; the diagonal is perfect calibration."""
    figure, axes = new_axes(5.4, 4.4)
    scores, rates = [one.mean_score for one in bins], [one.observed_rate for one in bins]
    most = min(1.0, 1.08 * max([*scores, *rates, 0.05]))
    axes.plot([0, most], [0, most], color=GREY, linewidth=1, linestyle="--", label="perfectly calibrated")
    axes.plot(scores, rates, "o-", color=ORANGE, markersize=5, linewidth=1.3, label="this spec")
    axes.set_xlim(0, most)
    axes.set_ylim(0, most)
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    for axis in (axes.xaxis, axes.yaxis):
        percent(axis)
    style(axes, "mean score of the bin", "observed rate", grid="both")
    return svg(figure)


def _explained(explanation: Explanation) -> str:
    """Plot bars of the most important features, the largest on top."""
    shown = explanation.features[:FEATURES_SHOWN][::-1]
    figure, axes = new_axes(5.4, 4.4)
    axes.barh([name for name, _ in shown], [value for _, value in shown], color=ORANGE, height=0.62)
    axes.locator_params(axis="x", nbins=5)
    style(axes, "rise of the log loss (nats)", grid="x")
    return svg(figure)
