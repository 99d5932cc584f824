"""All candidates of a training on one page: what each costs, what it is worth, and why one was chosen."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from nightshift.core.candidate_record import CandidateRecord
from nightshift.usecase import CompressionBudget

TEMPLATE = Path(__file__).with_name("pareto_report.html.j2")
PAGE, TABLE = "pareto.html", "pareto.csv"
FRONT, OTHER, REFUSED, WINNER = "#1864ab", "#9aa7b4", "#b42318", "#1d7a46"
INK, SOFT, GRID = "#1c2733", "#5a6b7d", "#dde3ea"
AIM_FASTER, AIM_SMALLER = 10, 20
"""What a compressed model should be against the teacher in the library that fitted it."""


def pareto_front(records: Iterable[CandidateRecord]) -> set[str]:
    """Names of the eligible candidates that none other beats: higher AUC, more rows per second, fewer bytes."""
    eligible = [record for record in records if record.eligible]
    return {one.name for one in eligible if not any(_dominates(other, one) for other in eligible)}


def _dominates(one: CandidateRecord, other: CandidateRecord) -> bool:
    better = [one.auc - other.auc, one.rows_per_second - other.rows_per_second, other.bytes - one.bytes]
    return min(better) >= 0 and max(better) > 0


def render(
    records: Sequence[CandidateRecord],
    reasons: Mapping[str, str],
    winner: str | None,
    teacher: str | None,
    budget: CompressionBudget,
    *,
    title: str,
    native_rows_per_second: float | None,
    native_bytes: float | None,
) -> dict[str, bytes]:
    """The report as files: `pareto.html`, readable without any server, and `pareto.csv`.

    `reasons`, `winner` and `teacher` are a Selection's. `native_rows_per_second` and `native_bytes` are those of
    the boosted teacher in its own library, if there is one. Equal inputs give equal bytes.
    """
    reference = next((r for r in records if r.name == teacher and not r.not_applicable), None)
    front = pareto_front(records)
    rows = [
        _row(record, reference, reasons, winner, teacher, front, native_rows_per_second, native_bytes)
        for record in sorted(records, key=_order)
    ]
    page = {
        "title": title,
        "winner": next((row for row in rows if row["name"] == winner), None),
        "teacher": teacher,
        "budget": budget,
        "plot": _plot(records, reference, front, winner, budget, native_rows_per_second),
        "rows": [row for row in rows if not row["not_applicable"]],
        "not_applicable": [row for row in rows if row["not_applicable"]],
        "native": native_rows_per_second is not None,
        "aims": {"faster": AIM_FASTER, "smaller": AIM_SMALLER},
        "reached": [row["name"] for row in rows if row["reaches_aim"]],
    }
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = _number
    html = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(page=page)
    return {PAGE: html.encode(), TABLE: _csv(rows)}


def _order(record: CandidateRecord) -> tuple[bool, float, str]:
    speed = record.rows_per_second
    return bool(record.not_applicable), -speed if speed == speed else math.inf, record.name


def _row(
    record: CandidateRecord,
    reference: CandidateRecord | None,
    reasons: Mapping[str, str],
    winner: str | None,
    teacher: str | None,
    front: set[str],
    native_rows_per_second: float | None,
    native_bytes: float | None,
) -> dict[str, Any]:
    """A record and what follows from it; numbers that are not known are None."""
    values = {name: None if value != value else value for name, value in asdict(record).items()}
    faster = record.rows_per_second / native_rows_per_second if native_rows_per_second else math.nan
    smaller = native_bytes / record.bytes if native_bytes else math.nan
    lost = reference.auc - record.auc if reference else math.nan
    return {
        **values,
        "techniques": ", ".join(record.techniques),
        "refused": "; ".join(record.refused),
        "auc_lost": None if lost != lost else lost,
        "times_faster": None if faster != faster else faster,
        "times_smaller": None if smaller != smaller else smaller,
        "reaches_aim": record.eligible and faster >= AIM_FASTER and smaller >= AIM_SMALLER and lost <= 0.002,
        "on_front": record.name in front,
        "chosen": record.name == winner,
        "teacher": record.name == teacher,
        "reason": reasons.get(record.name, ""),
    }


def _number(value: float | None, digits: int = 4, sign: bool = False) -> str:
    if value is None:
        return "-"
    return f"{value:{'+' if sign else ''},.{digits}f}"


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    sink = io.StringIO()
    writer = csv.DictWriter(sink, list(rows[0]) if rows else ["name"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue().encode()


def _plot(
    records: Sequence[CandidateRecord],
    reference: CandidateRecord | None,
    front: set[str],
    winner: str | None,
    budget: CompressionBudget,
    native: float | None,
) -> str:
    """AUC against rows per second, with the size of each model as the area of its mark."""
    shown = [r for r in records if not r.not_applicable and r.rows_per_second == r.rows_per_second]
    if not shown or reference is None:
        return "<p>No candidate was measured.</p>"
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    axes = figure.subplots()
    gained = {r.name: r.auc - reference.auc for r in shown}
    largest = max(r.bytes for r in shown)
    axes.axhspan(-budget.largest_auc_loss, max(0.0, *gained.values()) + 1, color="#2b8a3e", alpha=0.05, linewidth=0)
    axes.axhline(-budget.largest_auc_loss, color=WINNER, linewidth=1, linestyle=(0, (4, 3)))
    if native:
        axes.axvline(native, color=SOFT, linewidth=1, linestyle=":")
        axes.axvline(native * AIM_FASTER, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
    for record in sorted(shown, key=lambda r: -r.bytes):
        colour = REFUSED if record.refused else FRONT if record.name in front else OTHER
        colour = WINNER if record.name == winner else colour
        axes.scatter(
            [record.rows_per_second],
            [gained[record.name]],
            s=30 + 1400 * record.bytes / largest,
            facecolor="none" if record.refused else colour,
            edgecolor=colour,
            alpha=0.75,
            linewidth=1.5,
        )
    axes.set_xscale("log")
    low, high = min(gained.values()), max(0.0, *gained.values())
    margin = 0.08 * max(high - low, 0.005)
    axes.set_ylim(min(low, -budget.largest_auc_loss) - margin, high + margin)
    speeds = [r.rows_per_second for r in shown] + ([native, native * AIM_FASTER] if native else [])
    axes.set_xlim(min(speeds) / 1.3, max(speeds) * 2.2)
    _label(axes, shown, gained, front, winner)
    if native:
        for speed, text in ((native, "the boosted teacher in XGBoost"), (native * AIM_FASTER, "ten times that")):
            axes.annotate(text, (speed, 1), xycoords=("data", "axes fraction"), xytext=(3, -3), fontsize=8,
                          textcoords="offset points", color=SOFT, rotation=90, va="top")  # fmt: skip
    _style(axes)
    return _svg(figure)


def _label(
    axes: Axes, shown: Sequence[CandidateRecord], gained: Mapping[str, float], front: set[str], winner: str | None
) -> None:
    """Names beside their marks, moved apart where they would be written over each other."""
    bottom, top = axes.get_ylim()
    step = (top - bottom) / 26
    taken: list[tuple[float, float]] = []
    for record in sorted(shown, key=lambda r: (r.name != winner, r.name not in front, r.name)):
        x, height = math.log10(record.rows_per_second), gained[record.name]
        offsets = sorted(range(-8, 9), key=abs)
        free = [o for o in offsets if all(abs(height + o * step - y) >= step or abs(x - at) > 0.28 for at, y in taken)]
        y = height + (free[0] if free else 0) * step
        taken.append((x, y))
        axes.annotate(
            record.name,
            (record.rows_per_second, height),
            xytext=(record.rows_per_second * 1.09, y),
            fontsize=8,
            va="center",
            arrowprops={"arrowstyle": "-", "color": OTHER, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 2},
            color=WINNER if record.name == winner else INK if record.name in front else SOFT,
            fontweight="bold" if record.name == winner else "normal",
        )


def _style(axes: Axes) -> None:
    axes.set_xlabel("rows per second of one core", color=SOFT, fontsize=9)
    axes.set_ylabel("AUC, against the teacher", color=SOFT, fontsize=9)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1e6:g} M" if x >= 1e6 else f"{x / 1e3:g} k"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:+.3f}"))
    axes.tick_params(colors=SOFT, labelsize=8, length=0)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _svg(figure: Figure) -> str:
    """The figure as an <svg> element, the same for the same figure."""
    sink = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "nightshift", "svg.fonttype": "path"}):
        FigureCanvasSVG(figure).print_svg(sink, metadata={"Date": None})  # type: ignore[no-untyped-call]
    text = sink.getvalue()
    return text[text.index("<svg") :]
