"""The model page: specs and their roles, versions, gates, backtests, decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nightshift.app.page import PageContext
from nightshift.core.lifecycle.state import State, state_after
from nightshift.deployment import VERSION_ACTIONS, Deployment
from nightshift.services.report_pages import ON_DEMAND

VERSIONS_SHOWN = 30
GATE_VERSIONS_SHOWN = 12
DECISIONS_SHOWN = 50
BACKTESTS_SHOWN = 30
MARKS = {"pass": ("pass", "good"), "fail": ("fail", "bad"), "not applicable": ("n.a.", "")}


def view(context: PageContext) -> dict[str, Any]:
    """Values of model.html.j2."""
    decisions = context.reader.decisions()
    newest = max((one.partition for one in decisions), default=context.use_case.first_partition)
    state = state_after(decisions, newest)
    versions = [one for one in reversed(decisions) if one.action in VERSION_ACTIONS][:VERSIONS_SHOWN]
    about_specs = [one for one in reversed(decisions) if one.action not in VERSION_ACTIONS]
    gates, matrix = gate_matrix(_gate_rows(context))
    cards = set(context.store.folders(context.store.step_prefix(context.use_case.name, "report_training")))
    return {
        "title": "Model",
        "specs": specs(context, state, decisions),
        "state": state,
        "versions": versions,
        "card": lambda day: context.report("report_training", day, "card.html") if day.isoformat() in cards else "",
        "gates": gates,
        "matrix": matrix,
        "backtests": _backtests(context),
        "reports": _newest_reports(context),
        "decisions": about_specs[:DECISIONS_SHOWN],
        "annulled": {one.annuls for one in decisions if one.annuls is not None},
        "explain": explain,
    }


def specs(context: PageContext, state: State, decisions: Sequence[Deployment]) -> list[dict[str, Any]]:
    """Declared and recorded specs with their role now, those with a role first."""
    declared = context.use_case.specs
    names = dict.fromkeys([*declared, *(one.spec_id for one in decisions if one.spec_id)])
    roles = roles_of(state)
    found = []
    for spec_id in names:
        spec = state.specs.get(spec_id) or declared.get(spec_id)
        version = state.version(spec_id)
        found.append(
            {
                "spec_id": spec_id,
                "role": roles.get(spec_id, ""),
                "declared": spec_id in declared,
                "spec": spec,
                "version": version.model_version if version else "",
            }
        )
    order = ["champion", "challenger", "former champion, watched", "fallback", "", "retired"]
    return sorted(found, key=lambda one: order.index(one["role"].split(" (")[0]))


def roles_of(state: State) -> dict[str, str]:
    """The role of each spec that has one now."""
    roles = dict.fromkeys(state.retired, "retired")
    if state.fallback:
        roles[state.fallback] = "fallback"
    if state.watched:
        roles[state.watched] = "former champion, watched"
    if state.challenge:
        roles[state.challenge.spec_id] = f"challenger ({state.challenge.stage})"
    if state.champion:
        roles[state.champion] = "champion"
    return roles


def gate_matrix(rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[dict[str, Any]]]:
    """Names of all gates, and for each version, the newest first, its result by gate."""
    gates = list(dict.fromkeys(one["gate"] for one in rows))
    versions: dict[tuple[Any, str, str], dict[str, Any]] = {}
    for one in rows:
        key = (one["partition"], one["candidate"], one["model_version"])
        line = versions.setdefault(
            key, {"partition": key[0], "spec_id": key[1], "model_version": key[2], "results": {}, "failed": []}
        )
        text, tone = MARKS[one["verdict"]]
        line["results"][one["gate"]] = one | {"text": text, "tone": tone}
        if one["verdict"] == "fail":
            line["failed"].append(one)
    return gates, list(versions.values())


def explain(decision: Deployment) -> str:
    """The numbers behind a decision, in a line."""
    parts: list[str] = []
    for name, value in decision.reason.items():
        if isinstance(value, float):
            parts.append(f"{name} {value:.4g}")
        elif isinstance(value, str | int | bool):
            parts.append(str(value) if name == "why" else f"{name} {value}")
    return "; ".join(parts)


def _gate_rows(context: PageContext) -> list[dict[str, Any]]:
    return context.reader.rows(
        """
        WITH shown AS (
            SELECT partition, model_version, candidate, min(recorded_at) AS recorded FROM {gate_results}
            WHERE partition > (SELECT max(partition) FROM {gate_results}) - 60
            GROUP BY 1, 2, 3 ORDER BY partition DESC, candidate LIMIT %s
        )
        SELECT g.partition, g.model_version, g.candidate, g.gate, g.verdict, g.observed, g.bound, g.reason
        FROM {gate_results} AS g JOIN shown USING (partition, model_version, candidate)
        ORDER BY g.partition DESC, g.candidate, g.gate
        """,
        GATE_VERSIONS_SHOWN,
    )


def _backtests(context: PageContext) -> list[dict[str, Any]]:
    return context.reader.rows(
        """
        SELECT backtest_id, spec_id, baseline, min(partition) AS first, max(partition) AS last, sum(rows)::int AS rows,
            sum(rows * log_loss) / sum(rows) AS log_loss, sum(rows * brier) / sum(rows) AS brier,
            sum(rows * (mean_score - label_rate)) / sum(rows) AS gap
        FROM {backtests} GROUP BY 1, 2, 3 ORDER BY max(partition) DESC, backtest_id, log_loss LIMIT %s
        """,
        BACKTESTS_SHOWN,
    )


def _newest_reports(context: PageContext) -> list[tuple[str, str]]:
    """Title and address of the newest backtest, attacks and search."""
    found = []
    for report in ON_DEMAND:
        if report.step in ("backtest", "attack", "report_search"):
            days = context.store.folders(context.store.step_prefix(context.use_case.name, report.step))
            if days:
                title = "Pareto report of the search" if report.step == "report_search" else report.title
                found.append((f"{title} of {days[-1]}", context.report(report.address, days[-1], report.page)))
    return found
