"""Checks of a use case's monitoring rules against what `check_drift` records for it."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import get_args

from nightshift.core.checks.faults import DeclarationFault
from nightshift.core.monitoring.outcome_drift import EVERYTHING, SOURCE
from nightshift.declare.rules import DriftSignal, Rule
from nightshift.declare.use_case import UseCase
from nightshift.documents.check_drift import Statistic


def rule_faults(use_case: UseCase) -> Iterator[DeclarationFault]:
    """Signals that name a source, column or statistic that drift_daily never has for this use case."""
    for rule in use_case.rules:
        for signal in rule.signals:
            if isinstance(signal, DriftSignal):
                yield from _signal_faults(use_case, rule, signal)


def _signal_faults(use_case: UseCase, rule: Rule, signal: DriftSignal) -> Iterator[DeclarationFault]:
    statistics = get_args(Statistic)
    if signal.statistic and signal.statistic not in statistics:
        what = f"Rule {rule.name} names the statistic {signal.statistic!r}, which drift does not have."
        advice = f"{_near(signal.statistic, statistics)}docs/drift.md lists them."
        yield DeclarationFault("NS-RULE-012", what, advice, (signal.statistic, rule.name))
    columns = _columns(use_case, signal)
    if signal.source and signal.source not in columns:
        what = f"Rule {rule.name} names the source {signal.source!r}, of which {signal.kind} drift is not computed."
        advice = f"{_near(signal.source, [*columns])}There are {', '.join(columns)}."
        yield DeclarationFault("NS-RULE-013", what, advice, (signal.source, rule.name))
        return
    of_source = columns[signal.source] if signal.source else {name for names in columns.values() for name in names}
    if signal.column and signal.column.partition("=")[0] not in of_source:
        where = f"source {signal.source!r} does" if signal.source else f"{signal.kind} drift does"
        what = f"Rule {rule.name} names the column {signal.column!r}, which {where} not have."
        advice = f"{_near(signal.column, [*of_source])}Of outcomes, a slice is written column=value."
        yield DeclarationFault("NS-RULE-014", what, advice, (signal.column, rule.name))


def _columns(use_case: UseCase, signal: DriftSignal) -> dict[str, set[str]]:
    """Names of columns by source, of one kind of drift; of slices, the name before `=`."""
    if signal.kind == "label":
        return {SOURCE: {use_case.label}}
    if signal.kind == "concept":
        return {SOURCE: {EVERYTHING, *use_case.slices.columns}}
    views = {table.name: {*table.numeric, *table.categorical} for table in use_case.features.tables}
    if signal.kind == "skew":
        return views
    if signal.kind == "prediction":
        return {"scores": {"raw_score"}}
    feeds = {feed.name: {column.name for column in feed.curated} for feed in use_case.feeds}
    monitored = {table.name: set(table.monitored) for table in use_case.features.tables}
    return feeds | {name: columns | monitored[name] for name, columns in views.items()}


def _near(name: str, names: list[str] | tuple[str, ...]) -> str:
    near = get_close_matches(name, names, 1)
    return f"Did you mean {near[0]}? " if near else ""
