"""A model card as one HTML page, readable without any server: what a version is for, how good it is, and its limits.

What a card should say follows Mitchell et al. 2019, "Model Cards for Model Reporting". Everything on it is read
from records that other steps made; nothing is measured here.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from nightshift.artifact import Manifest
from nightshift.core.explanations import Explanation
from nightshift.core.risk import Demands
from nightshift.deployment import GateResult
from nightshift.documents import Registration, TrainingSet
from nightshift.usecase import UseCase

TEMPLATE = Path(__file__).with_name("model_card.html.j2")
MODEL, REFERENCE, INK, SOFT, GRID = "#d9480f", "#7b8ca0", "#1c2733", "#5a6b7d", "#dde3ea"
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
    """What was recorded of a version.

    `version` is its manifest, `card` its card.json, `verification` its verification.json (without `holdout` and
    what goes with it if it could not be scored with), `gates` every gate's result with what was measured,
    `others` the pages of the partition's other versions by spec id. `explanation`: None if there is none.
    """

    entry: Registration.Entry
    version: Manifest
    training_set: TrainingSet
    card: Mapping[str, Any]
    verification: Mapping[str, Any]
    gates: Sequence[GateResult]
    demands: Demands
    explanation: Explanation | None
    others: Mapping[str, str]


def render(use_case: UseCase, records: Records) -> str:
    """The card. Equal records give an equal page within one version of matplotlib."""
    headline, tone = HEADLINES[records.entry.action]
    card, found, explanation = records.card, records.verification, records.explanation
    mandatory = records.demands.mandatory
    page = {
        "title": use_case.title,
        "entry": records.entry,
        "headline": headline,
        "tone": tone,
        "answers": card["answers"],
        "key": ", ".join(use_case.key_columns),
        "threshold": use_case.decision_threshold,
        "owner": use_case.owner,
        "risks": sorted(use_case.risk.risks, key=lambda risk: -risk.score),
        "demanded": _demanded(use_case, records),
        "spec": json.dumps(card["spec"], indent=1, ensure_ascii=False),
        "quality": [(name, found["holdout"][key]) for key, name in QUALITY] if "holdout" in found else [],
        "bytes": found.get("bytes"),
        "calibration": _calibration(found["calibration"]) if "calibration" in found else "",
        "explanation": explanation,
        "explained": _explained(explanation) if explanation else "",
        "rest": explanation.features[FEATURES_SHOWN:] if explanation else (),
        "slices": _slices(found.get("slices", ())),
        "least_rows": use_case.slices.least_rows,
        "confidence": f"{use_case.slices.confidence:.0%}",
        "gates": [{**gate.model_dump(), "mandatory": gate.gate in mandatory} for gate in records.gates],
        "parts": [("fitted on", card["fitted_on"]), ("measured on (holdout)", card["measured_on"])],
        "features": card["features"],
        "sources": use_case.sources,
        "training_set": records.training_set,
        "made_by": records.version,
        "limits": [card["limits"], *_limits(records)],
        "others": records.others,
    }
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["number"] = _number
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(page=page)


def _number(value: float | None) -> str:
    """Four decimals below 10; thousands get separators and lose their decimals."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 or (value == int(value) and abs(value) >= 10) else f"{value:.4g}"


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
        else f"No person need approve a spec (that is from {policy.approval_from} on)."
    )
    return f"The highest score is {demands.score} of {LARGEST_SCORE}: {gates} mandatory. {approve}"


def _slices(slices: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Slices with the largest loss first in their column, and where their intervals lie on one common scale."""
    judged = [one for one in slices if one["verdict"] == "judged"]
    most = max((one["log_loss_high"] for one in judged), default=1.0)
    columns = list(dict.fromkeys(one["column"] for one in slices))
    found = []
    for one in sorted(slices, key=lambda s: (columns.index(s["column"]), s["verdict"] != "judged", -s["log_loss"])):
        low, high = (round(100 * min(one[name] / most, 1), 1) for name in ("log_loss_low", "log_loss_high"))
        mark = round(100 * min(one["log_loss"] / most, 1), 1)
        found.append({**one, "left": low, "width": round(high - low, 1), "mark": mark})
    return found


def _limits(records: Records) -> list[str]:
    """What the records do not show."""
    limits = []
    first, last = (date.fromisoformat(records.card["fitted_on"][f"{name}_partition"]) for name in ("first", "last"))
    if (last - first).days < A_YEAR:
        limits.append(f"Fitted on {first} to {last}, less than a year: it has not seen every season.")
    slices = records.verification.get("slices", ())
    small = [f"{one['column']} {one['value']}" for one in slices if one["verdict"] != "judged"]
    if small:
        limits.append(f"Too few holdout rows or days to say how good it is for: {', '.join(small)}.")
    if not slices:
        limits.append("There are no slices: nothing is known of parts of the rows.")
    mandatory = records.demands.mandatory
    failed = [gate.gate for gate in records.gates if gate.verdict == "fail" and gate.gate not in mandatory]
    if failed:
        limits.append(f"It failed gates that the declared risks do not make mandatory: {', '.join(failed)}.")
    unjudged = [gate.gate for gate in records.gates if gate.verdict == "not applicable"]
    if unjudged:
        limits.append(f"Not judged, for the reasons in the table of gates: {', '.join(unjudged)}.")
    limits.append("Metrics are of scores before calibration, which is updated for every partition.")
    return limits


def _calibration(bins: Sequence[Mapping[str, float]]) -> str:
    """Observed rate over mean score of each bin; on the diagonal, scores mean what they say."""
    figure = Figure(figsize=(5.4, 4.4), layout="constrained")
    axes = figure.subplots()
    scores, rates = [one["mean_score"] for one in bins], [one["observed_rate"] for one in bins]
    most = min(1.0, 1.08 * max([*scores, *rates, 0.05]))
    axes.plot([0, most], [0, most], color=REFERENCE, linewidth=1, linestyle="--", label="perfectly calibrated")
    axes.plot(scores, rates, "o-", color=MODEL, markersize=5, linewidth=1.3, label="this spec")
    axes.set_xlim(0, most)
    axes.set_ylim(0, most)
    axes.set_xlabel("mean score of the bin", color=SOFT, fontsize=9)
    axes.set_ylabel("observed rate", color=SOFT, fontsize=9)
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(matplotlib.ticker.MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(matplotlib.ticker.PercentFormatter(xmax=1, decimals=0))
    _style(axes, "both")
    return _svg(figure)


def _explained(explanation: Explanation) -> str:
    """Bars of the features that matter most, the largest on top."""
    shown = explanation.features[:FEATURES_SHOWN][::-1]
    figure = Figure(figsize=(5.4, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.barh([name for name, _ in shown], [value for _, value in shown], color=MODEL, height=0.62)
    axes.set_xlabel(explanation.measure, color=SOFT, fontsize=9)
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(nbins=5))
    _style(axes, "x")
    return _svg(figure)


def _style(axes: Axes, grid: str) -> None:
    axes.tick_params(colors=SOFT, labelsize=8, length=0)
    axes.grid(axis=grid, color=GRID, linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("bottom", "left"))
        spine.set_color(GRID)


def _svg(figure: Figure) -> str:
    """The figure as an <svg> element, the same for the same figure."""
    sink = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "nightshift", "svg.fonttype": "path"}):
        FigureCanvasSVG(figure).print_svg(sink, metadata={"Date": None})  # type: ignore[no-untyped-call]
    text = sink.getvalue()
    return text[text.index("<svg") :]
