"""A model card as one HTML page, readable without any server: what a model is for, how good it is, and its limits.

What a card should say follows Mitchell et al. 2019, "Model Cards for Model Reporting". Everything on it
is read from records that other steps made; nothing is measured here.
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
from nightshift.core.candidates import RECIPES, STUDENTS
from nightshift.core.explanations import Explanation
from nightshift.core.promotion import Outcome, Rival
from nightshift.core.risk import Demands
from nightshift.deployment import GateResult
from nightshift.usecase import UseCase

TEMPLATE = Path(__file__).with_name("model_card.html.j2")
MODEL, REFERENCE, INK, SOFT, GRID = "#d9480f", "#7b8ca0", "#1c2733", "#5a6b7d", "#dde3ea"
FEATURES_SHOWN = 15
LARGEST_SCORE = 25
A_YEAR = 364
HEADLINES = {
    "promoted": ("Champion", "good"),
    "shadow": ("On trial", "good"),
    "shelved": ("Shelved", "none"),
    "rejected": ("Rejected", "bad"),
}
QUALITY = (
    ("auc", "AUC"),
    ("log_loss", "Log loss"),
    ("brier", "Brier score"),
    ("calibration_error", "Calibration error"),
)


@dataclass(frozen=True)
class Records:
    """What was recorded of a model: by the steps that made, verified and chose it, and by the gates.

    `teacher_refused`: why the teacher was not to be chosen itself, or "". `model` and `training_set` are
    manifests, `card` the model's card.json, `verification` the chosen candidate's verification.json,
    `metrics` the measured numbers of each candidate.
    """

    version: str
    outcome: Outcome
    winner: str
    teacher: str | None
    teacher_refused: str
    chosen_because: str
    model: Manifest
    training_set: Manifest
    card: bytes
    verification: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, float]]
    rivals: Sequence[Rival]
    gates: Sequence[GateResult]
    demands: Demands
    explanation: Explanation


def render(use_case: UseCase, records: Records) -> str:
    """The card. Equal records give an equal page within one version of matplotlib."""
    headline, tone = HEADLINES[records.outcome.action]
    card = json.loads(records.card)
    slices = records.verification["slices"]
    page = {
        "title": use_case.title,
        "version": records.version,
        "headline": headline,
        "tone": tone,
        "why": records.outcome.why,
        "answers": card["answers"],
        "key": ", ".join(column.name for column in use_case.prediction_key),
        "threshold": use_case.decision_threshold,
        "owner": use_case.owner,
        "risks": sorted(use_case.risk.risks, key=lambda risk: -risk.score),
        "demanded": _demanded(use_case, records),
        "tiles": _tiles(records),
        "quality_names": [name for _, name in QUALITY],
        "quality": _quality(records),
        "calibration": _calibration(records.verification["calibration"]),
        "explanation": records.explanation,
        "explained": _explained(records.explanation),
        "rest": records.explanation.features[FEATURES_SHOWN:],
        "slices": _slices(slices),
        "least_rows": use_case.slices.least_rows,
        "confidence": f"{use_case.slices.confidence:.0%}",
        "gates": [_gate(gate, records.demands) for gate in records.gates],
        "compression": _compression(use_case, records),
        "parts": _parts(card, records.training_set),
        "features": card["features"],
        "sources": use_case.sources,
        "training_set": records.training_set.ref,
        "missing_days": len(records.training_set.parameters.get("missing", [])),
        "made_by": records.model,
        "limits": [card["limits"], *_limits(use_case, records, card["fitted_on"])],
        "approval": _approval(use_case, records),
    }
    return _page(page)


def render_none(title: str, reasons: Mapping[str, str]) -> str:
    """The page in place of a card where no candidate may be chosen: what spoke against each."""
    return _page({"title": title, "version": "", "reasons": reasons})


def _page(page: Mapping[str, Any]) -> str:
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
        return "The use case declares no risks. Gates that hold for every model are mandatory; nobody need approve."
    total = len(records.gates)
    every = demands.score >= policy.every_gate_from
    gates = f"every one of the {total} gates is" if every else f"{len(demands.mandatory)} of the {total} gates are"
    approve = (
        f"A person must approve it before it may become champion (from {policy.approval_from} on)."
        if demands.approval
        else f"No person need approve it (that is from {policy.approval_from} on)."
    )
    return f"The highest score is {demands.score} of {LARGEST_SCORE}: {gates} mandatory. {approve}"


def _approval(use_case: UseCase, records: Records) -> str:
    if not records.demands.approval:
        return "None is demanded by the declared risks."
    who = ", ".join(use_case.risk.approvers) or "anyone who may edit the runs of the promote DAG"
    return (
        f"Demanded once the trial says that it may become champion, from {who}, within "
        f"{use_case.risk.approval_hours:g} hours. Not asked for yet when this card was made; who answered, and what, "
        f"is in the table deployments under {records.version}."
    )


def _tiles(records: Records) -> list[tuple[str, str, str]]:
    """The few numbers to see first: name, value, what it is held against."""
    holdout, metrics = records.verification["holdout"], records.metrics[records.winner]
    teacher = records.metrics.get(records.teacher or "", {})
    against = f"teacher {records.teacher}: " if records.teacher and records.teacher != records.winner else ""

    def beside(name: str, form: str) -> str:
        return against + form.format(teacher[name]) if against and name in teacher else ""

    tiles = [
        ("AUC", f"{holdout['auc']:.4f}", beside("auc", "{:.4f}")),
        ("Log loss", f"{holdout['log_loss']:.4f}", beside("log_loss", "{:.4f}")),
        ("Size", _size(records.verification["bytes"]), against + _size(teacher["bytes"]) if against else ""),
    ]
    if "rows_per_second" in metrics:
        tiles.append(
            ("Rows a second, one core", f"{metrics['rows_per_second']:,.0f}", beside("rows_per_second", "{:,.0f}"))
        )
    return tiles


def _size(count: float) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB"


def _quality(records: Records) -> list[dict[str, Any]]:
    """This model's metrics, those of the models in service, and the teacher's."""
    rows = [{"name": f"this model ({records.winner})", "metrics": records.verification["holdout"], "absence": ""}]
    rows += [
        {"name": f"{r.role} {r.model_version}".strip(), "metrics": r.metrics, "absence": r.absence}
        for r in records.rivals
    ]
    if records.teacher and records.teacher != records.winner and records.teacher in records.metrics:
        rows.append(
            {"name": f"teacher ({records.teacher})", "metrics": records.metrics[records.teacher], "absence": ""}
        )
    for row in rows:
        row["values"] = [row["metrics"][key] for key, _ in QUALITY] if row["metrics"] else None
    return rows


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


def _gate(gate: GateResult, demands: Demands) -> dict[str, Any]:
    return {**gate.model_dump(), "mandatory": gate.gate in demands.mandatory}


def _compression(use_case: UseCase, records: Records) -> list[tuple[str, str]]:
    budget, winner = use_case.compression, records.metrics[records.winner]
    rows = [
        ("chosen", records.winner),
        ("made by", _made_by(records.winner)),
        ("because", records.chosen_because),
        ("teacher", _teacher(records)),
        (
            "budget",
            f"may lose {budget.largest_auc_loss:g} of AUC and {budget.largest_log_loss_increase:g} of log loss against "
            f"the teacher; then {budget.objective.replace('_', ' ')} decides",
        ),
    ]
    teacher = records.metrics.get(records.teacher or "")
    if teacher and records.teacher != records.winner:
        smaller = teacher["bytes"] / winner["bytes"]
        ratios = f"{smaller:.1f} times smaller" if smaller >= 1 else f"{1 / smaller:.1f} times larger"
        if "rows_per_second" in teacher and "rows_per_second" in winner:
            ratios += f", {winner['rows_per_second'] / teacher['rows_per_second']:.1f} times the rows a second"
        rows.append(("against the teacher", f"{ratios} (both as ONNX)"))
    disagreement = records.verification.get("disagreement")
    if disagreement:
        rows.append(
            (
                "disagreement with the teacher",
                f"scores differ by {disagreement['mean']:.4f} on average, by {disagreement['p99']:.4f} on one row of "
                f"a hundred; {disagreement['decisions']:.2%} of the decisions differ",
            )
        )
    return rows


def _teacher(records: Records) -> str:
    if records.teacher is None:
        return "none: no estimator could be asked"
    refused = records.teacher_refused
    return f"{records.teacher}; it may not serve itself: {refused}" if refused else records.teacher


def _made_by(candidate: str) -> str:
    recipe = RECIPES.get(candidate)
    if recipe is None:
        return "distillation from the teacher" if candidate in STUDENTS else "fitting to the labels, uncompressed"
    return f"{', then '.join(recipe.techniques)}, from {recipe.source}"


def _parts(card: Mapping[str, Any], training_set: Manifest) -> list[dict[str, Any]]:
    """Partitions, rows and label rate of both parts of the training set."""
    spans = (("fitted on", "fitted_on", "train"), ("judged on (holdout)", "judged_on", "holdout"))
    rates = training_set.metrics
    return [
        {"name": name, **card[key], "label_rate": rates.get(part, {}).get("label_rate")} for name, key, part in spans
    ]


def _limits(use_case: UseCase, records: Records, fitted_on: Mapping[str, Any]) -> list[str]:
    """What the records do not show."""
    limits = []
    first, last = (date.fromisoformat(fitted_on[name]) for name in ("first_partition", "last_partition"))
    if (last - first).days < A_YEAR:
        limits.append(f"Fitted on {first} to {last}, less than a year: it has not seen every season.")
    slices = records.verification["slices"]
    small = [f"{one['column']} {one['value']}" for one in slices if one["verdict"] != "judged"]
    if small:
        limits.append(f"Too few holdout rows or days to say how good it is for: {', '.join(small)}.")
    if not slices:
        limits.append("The use case declares no slices: nothing is known of parts of the rows.")
    failed = [
        gate.gate for gate in records.gates if gate.verdict == "fail" and gate.gate not in records.demands.mandatory
    ]
    if failed:
        limits.append(f"It failed gates that the declared risks do not make mandatory: {', '.join(failed)}.")
    unjudged = [gate.gate for gate in records.gates if gate.verdict == "not applicable"]
    if unjudged:
        limits.append(f"Not judged, for the reasons in the table of gates: {', '.join(unjudged)}.")
    limits.append(
        f"Scores are probabilities; the decision at {use_case.decision_threshold:g} is a convention, not a finding."
    )
    return limits


def _calibration(bins: Sequence[Mapping[str, float]]) -> str:
    """Observed rate over mean score of each bin; on the diagonal, scores mean what they say."""
    figure = Figure(figsize=(5.4, 4.4), layout="constrained")
    axes = figure.subplots()
    scores, rates = [one["mean_score"] for one in bins], [one["observed_rate"] for one in bins]
    most = min(1.0, 1.08 * max([*scores, *rates, 0.05]))
    axes.plot([0, most], [0, most], color=REFERENCE, linewidth=1, linestyle="--", label="perfectly calibrated")
    axes.plot(scores, rates, "o-", color=MODEL, markersize=5, linewidth=1.3, label="this model")
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
