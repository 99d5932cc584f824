"""Great Expectations, run over one table: the rows that break an expectation, and whether the table is rejected.

A table of more than 65,536 rows is evaluated in batches by expectations that are decided row by row. Others (such as
uniqueness, order, the figures of a column, or any with a row condition) get the columns that they name as a whole.

Severities map to Great Expectations' own: critical -> critical, quarantine -> warning, warning -> info.
"""

from __future__ import annotations

import copy
import html
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import JsonValue

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

import great_expectations as gx
from great_expectations.core import ExpectationSuiteValidationResult, RunIdentifier
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)
from great_expectations.exceptions.exceptions import ExpectationNotFoundError
from great_expectations.expectations.expectation import (
    ColumnMapExpectation,
    ColumnPairMapExpectation,
    MulticolumnMapExpectation,
    UnexpectedRowsExpectation,
)
from great_expectations.expectations.metadata_types import FailureSeverity
from great_expectations.expectations.registry import get_expectation_impl
from great_expectations.validator.validation_statistics import calc_validation_statistics

from nightshift.core.parquet_file import fits_a_batch, row_batches
from nightshift.declare.feeds import Expectation, Feed, Severity
from nightshift.declare.use_case import UseCase
from nightshift.errors import ConfigurationError
from nightshift.io import data_docs
from nightshift.io.expectation_arguments import references, resolved_arguments, suite_parameters
from nightshift.io.expectation_batches import POSITIONS, RESULT_FORMAT, columns_named, frame, in_batches, merged

_GX_SEVERITY: dict[Severity, FailureSeverity] = {
    "critical": FailureSeverity.CRITICAL,
    "quarantine": FailureSeverity.WARNING,
    "warning": FailureSeverity.INFO,
}
_ABOUT_ROWS = (ColumnMapExpectation, ColumnPairMapExpectation, MulticolumnMapExpectation, UnexpectedRowsExpectation)
_EXAMPLES = 5
Positions = npt.NDArray[np.int64]
_LONG_LISTS = ("unexpected_list", "unexpected_index_list", "partial_unexpected_index_list", "unexpected_index_query")


@dataclass(frozen=True)
class Finding:
    """The result of one expectation. `positions`: the rows that break it (none for an expectation about the table),
    ascending."""

    expectation: Expectation
    success: bool
    unexpected: int
    observed: str
    positions: Positions

    def __str__(self) -> str:
        column = self.expectation.kwargs.get("column")
        where = f"column {column!r}: " if column else ""
        return f"{where}{self.expectation.reason} ({self.expectation.type}: {self.observed})"


@dataclass(frozen=True)
class Verdict:
    """Great Expectations' results for the table of one feed."""

    feed: str
    findings: tuple[Finding, ...]
    result: ExpectationSuiteValidationResult

    def breached(self, severity: Severity) -> list[Finding]:
        """Findings of that severity that failed as a whole, or name rows if their severity is about rows."""
        by_row = severity != "critical"
        return [
            finding
            for finding in self.findings
            if finding.expectation.severity == severity and (not finding.success or (by_row and len(finding.positions)))
        ]

    def reasons(self, severity: Severity, first: int = 0, end: float = np.inf) -> dict[int, list[str]]:
        """Row position -> reasons of all findings of that severity, in the order declared; of rows `first` to before
        `end`."""
        reasons: dict[int, list[str]] = {}
        for finding in self.breached(severity):
            start, stop = np.searchsorted(finding.positions, (first, end))
            for position in finding.positions[start:stop].tolist():
                reasons.setdefault(position, []).append(finding.expectation.reason)
        return dict(sorted(reasons.items()))

    def rows(self, severity: Severity) -> int:
        """Number of rows that have a reason of that severity."""
        positions = [finding.positions for finding in self.breached(severity)]
        return len(np.unique(np.concatenate(positions))) if positions else 0

    @cached_property
    def json(self) -> dict[str, JsonValue]:
        """The validation result as Great Expectations' JSON, without full lists of rows, which are in quarantine."""
        body: dict[str, JsonValue] = self.result.to_json_dict()  # type: ignore[no-untyped-call]
        return body

    @cached_property
    def html(self) -> str:
        """The Data Docs page of the validation result. Equal results give equal text."""
        return data_docs.page(self.result)


def examine(use_case: UseCase, feed: Feed, rows: pq.ParquetFile, parameter: Callable[[str], Any]) -> Verdict:
    """Run the feed's expectations over the rows (curated columns, and columns for expectations only).

    Raises ConfigurationError if an expectation is unknown, cannot be evaluated on the table, or
    has severity `quarantine` and is not about rows.
    """
    declared = feed.expectations
    name = f"{use_case.name}.{feed.name}"
    result = _evaluated(name, feed, rows, parameter)
    for one in result.results:
        _order_sets(one.result)
    findings = tuple(_finding(feed, e, one) for e, one in zip(declared, result.results, strict=True))
    for expectation, one in zip(declared, result.results, strict=True):
        for figure in _LONG_LISTS:
            one.result.pop(figure, None)
        # The name of the other table's column replaces its values, which would fill the page.
        others = {argument: source for argument, source in references(expectation).items() if "." in source}
        one.expectation_config.kwargs.update({argument: [f"values of {source}"] for argument, source in others.items()})
    result.meta = {
        "great_expectations_version": gx.__version__,
        "run_id": RunIdentifier(run_name=f"{name} {parameter('partition').date()}", run_time=parameter("cutoff")),
    }
    return Verdict(feed.name, findings, result)


def declaration_faults(
    use_case: UseCase, feed: Feed, columns: Mapping[str, Sequence[str]]
) -> list[tuple[Expectation, ConfigurationError]]:
    """What is wrong with each of the feed's expectations that can be seen without data.

    `columns`: of each feed, by its name, what its normalise SQL returns.
    """

    def values(other: str, column: str) -> pa.Array:
        if column not in columns[other]:
            raise ConfigurationError(
                "NS-CURATE-006", f"Feed {other} has no column {column!r}; it has {', '.join(columns[other])}."
            )
        return pa.array([], pa.string())

    parameter = suite_parameters(use_case, use_case.first_partition, values)
    faults = []
    for position, expectation in enumerate(feed.expectations):
        try:
            kwargs = resolved_arguments(expectation, pa.table({}), parameter)
            implementation = type(_gx_expectation(feed, position, expectation, kwargs))
        except ConfigurationError as error:
            faults.append((expectation, error))
            continue
        if absent := [name for name in columns_named(kwargs) if name not in columns[feed.name]]:
            what = f"names the columns {absent}, which {feed.normalise.name} does not return"
            what = f"{expectation.type} {what}; it returns {', '.join(columns[feed.name])}."
            faults.append((expectation, ConfigurationError("NS-CURATE-013", what)))
        if expectation.severity == "quarantine" and not issubclass(implementation, _ABOUT_ROWS):
            what = f"{expectation.type} names no rows, so its severity cannot be 'quarantine'."
            faults.append((expectation, ConfigurationError("NS-CURATE-014", what)))
    return faults


def _evaluated(name: str, feed: Feed, rows: pq.ParquetFile, parameter: Callable[[str], Any]) -> Any:
    """Great Expectations' result, in the order declared."""
    columns, is_one_batch = rows.schema_arrow.names, fits_a_batch(rows)
    by_batch: dict[int, Expectation] = {}
    results: dict[int, list[Any]] = {}
    for n, expectation in enumerate(feed.expectations):
        if is_one_batch or in_batches(expectation.type, expectation.kwargs):
            by_batch[n] = expectation
            continue
        condition, named = str(expectation.kwargs.get("row_condition")), columns_named(expectation.kwargs)
        table = rows.read([column for column in columns if column in named or column in condition])
        results[n] = _validate(name, feed, {n: expectation}, table, parameter).results
    with_nulls = _with_nulls(rows.metadata)
    first = 0
    for batch in row_batches(rows) if rows.metadata.num_rows else [rows.schema_arrow.empty_table()]:
        table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
        reuse = is_one_batch and feed.cadence == "snapshot"
        suite = _validate(name, feed, by_batch, table, parameter, first=first, with_nulls=with_nulls, reuse=reuse)
        for n, one in zip(by_batch, suite.results, strict=True):
            earlier = results.setdefault(n, [])
            if earlier:
                # It may have the values of another feed, many for each batch.
                one.expectation_config = earlier[0].expectation_config
            if POSITIONS in one.result:
                one.result[POSITIONS] = np.array(one.result[POSITIONS], np.int64)
            earlier.append(one)
        first += table.num_rows
    suite.results = [merged(results[n]) for n in range(len(feed.expectations))]
    statistics = calc_validation_statistics(suite.results)
    suite.success, suite.statistics = statistics.success, {name: getattr(statistics, name) for name in suite.statistics}
    return suite


def _with_nulls(metadata: pq.FileMetaData) -> frozenset[str]:
    """Columns of a Parquet file with nulls."""
    groups = (metadata.row_group(n) for n in range(metadata.num_row_groups))
    chunks = (group.column(n) for group in groups for n in range(metadata.num_columns))
    return frozenset(chunk.path_in_schema for chunk in chunks if not chunk.statistics or chunk.statistics.null_count)


def _validate(
    name: str,
    feed: Feed,
    expectations: Mapping[int, Expectation],
    table: pa.Table,
    parameter: Callable[[str], Any],
    *,
    first: int = 0,
    with_nulls: frozenset[str] = frozenset(),
    reuse: bool = False,
) -> Any:
    """Great Expectations' result of expectations by their number, on rows from position `first` on.

    With `reuse`, that of the rows evaluated before, if they and the arguments are equal.
    """
    resolved = {n: resolved_arguments(one, table, parameter) for n, one in expectations.items()}
    earlier = _snapshots.get(name) if reuse else None
    if earlier and earlier[0] == (feed, resolved) and earlier[1].equals(table):
        return copy.deepcopy(earlier[2])
    declared = [_gx_expectation(feed, n, expectations[n], kwargs) for n, kwargs in resolved.items()]
    batch = _batch_definition(name).get_batch({"dataframe": frame(table, first, with_nulls)})
    result = batch.validate(gx.ExpectationSuite(name=name, expectations=declared), result_format=RESULT_FORMAT)
    # Great Expectations does not keep the order.
    result.results.sort(key=lambda one: one.expectation_config.meta["position"])
    if reuse:
        _snapshots[name] = ((feed, resolved), table, copy.deepcopy(result))
    return result


_snapshots: dict[str, tuple[Any, pa.Table, Any]] = {}
"""The newest examination of each snapshot feed: (feed and arguments, table, result)."""


@cache
def _source() -> Any:
    config = DataContextConfig(
        analytics_enabled=False,
        progress_bars=ProgressBarsConfig(globally=False),
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
    )
    return gx.get_context(mode="ephemeral", project_config=config).data_sources.add_pandas("curated")


@cache
def _batch_definition(name: str) -> Any:
    return _source().add_dataframe_asset(name).add_batch_definition_whole_dataframe("partition")


def _gx_expectation(feed: Feed, position: int, expectation: Expectation, kwargs: Mapping[str, Any]) -> Any:
    try:
        return get_expectation_impl(expectation.type)(
            **kwargs,
            severity=_GX_SEVERITY[expectation.severity],
            notes=expectation.reason,
            meta={"position": position},
        )
    except (ExpectationNotFoundError, ValueError, TypeError) as error:
        raise ConfigurationError(
            "NS-CURATE-007",
            f"Feed {feed.name} declares {expectation.type} with {dict(expectation.kwargs)}, "
            f"which Great Expectations does not accept: {error}.",
        ) from error


def _finding(feed: Feed, expectation: Expectation, one: Any) -> Finding:
    # Great Expectations reports one exception, or one per metric.
    info = one.exception_info
    exceptions = [info] if "raised_exception" in info else list(info.values())
    messages = "; ".join(str(e["exception_message"]) for e in exceptions if e["raised_exception"])
    if messages:
        raise ConfigurationError(
            "NS-CURATE-008",
            f"Feed {feed.name}: {expectation.type} with {dict(expectation.kwargs)} cannot be evaluated: {messages}. "
            "Correct the declaration.",
        )
    figures = one.result
    positions = np.sort(figures.get(POSITIONS, np.array([], np.int64)))
    if expectation.severity == "quarantine" and not one.success and not len(positions):
        raise ConfigurationError(
            "NS-CURATE-009",
            f"Feed {feed.name}: {expectation.type} names no rows, so its severity cannot be 'quarantine'. "
            "Declare it critical or warning, or use an expectation about rows.",
        )
    if "element_count" in figures:
        count = figures.get("unexpected_count") or 0
        observed = f"{count} of {figures['element_count']} rows{_examples(figures, 'partial_unexpected_list')}"
        return Finding(expectation, one.success, count, observed, positions)
    return Finding(expectation, one.success, 0, _observed(figures), positions)


def _observed(figures: Mapping[str, Any]) -> str:
    """What an expectation about a column or table observed; those about sets of values count them instead."""
    sets = {"unexpected": "values outside the set", "missing": "values of the set missing"}
    counts = [
        f"{count} {what}{_examples(figures, f'partial_{name}_list')}"
        for name, what in sets.items()
        if (count := figures.get(f"{name}_count"))
    ]
    return ", ".join(counts) or f"observed {figures.get('observed_value')}"


def _order_sets(figures: dict[str, Any]) -> None:
    """Sort the values that an expectation about sets lists; leave out a list that is not complete.

    Great Expectations lists them in the order of a Python set, which differs from one process to the next.
    """
    if "element_count" in figures:
        return
    for name in ("unexpected", "missing"):
        values = figures.pop(f"partial_{name}_list", None)
        if values and len(values) == figures[f"{name}_count"]:
            figures[f"partial_{name}_list"] = sorted(values, key=str)


def _examples(figures: Mapping[str, Any], name: str) -> str:
    examples = list(dict.fromkeys(map(str, figures.get(name) or ())))[:_EXAMPLES]
    return f", for example {', '.join(examples)}" if examples and examples != ["None"] else ""


def render_data_docs(title: str, verdicts: Sequence[Verdict]) -> dict[str, bytes]:
    """A static site: index.html and one page per feed."""
    title = html.escape(title)
    rows = "\n".join(
        f'<tr><td><a href="{verdict.feed}.html">{verdict.feed}</a></td>'
        f"<td>{'rejected' if verdict.breached('critical') else 'passed'}</td>"
        f"<td>{verdict.rows('quarantine')}</td><td>{len(verdict.breached('warning'))}</td></tr>"
        for verdict in verdicts
    )
    index = (
        f"<!doctype html><html lang='en'><meta charset='utf-8'>"
        f'<meta http-equiv="Content-Security-Policy" content="{data_docs.POLICY}"><title>{title}</title>'
        "<style>body{font:16px system-ui;margin:3rem}td,th{padding:.3rem 1.2rem .3rem 0;text-align:left}</style>"
        f"<h1>{title}</h1><table><tr><th>feed</th><th>critical</th><th>rows quarantined</th><th>warnings</th></tr>\n"
        f"{rows}\n</table></html>\n"
    )
    return {"index.html": index.encode(), **{f"{v.feed}.html": v.html.encode() for v in verdicts}}
