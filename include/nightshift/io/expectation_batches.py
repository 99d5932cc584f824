"""Which expectations can be evaluated on batches of rows, and one result of an expectation from those of its batches.

Put here: what is known about Great Expectations' own expectations. Keep out: the project's declarations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from great_expectations.constants import MAX_RESULT_RECORDS
from great_expectations.expectations.expectation import _format_map_output
from great_expectations.expectations.expectation_configuration import parse_result_format

RESULT_FORMAT = {"result_format": "COMPLETE", "return_unexpected_index_query": False}
POSITIONS = "unexpected_index_list"
COLUMN_ARGUMENTS = ("column", "column_A", "column_B", "column_list", "column_set")
_ROW_WISE = frozenset(
    {
        "expect_column_pair_values_a_to_be_greater_than_b",
        "expect_column_pair_values_to_be_equal",
        "expect_column_pair_values_to_be_in_set",
        "expect_column_value_lengths_to_be_between",
        "expect_column_value_lengths_to_equal",
        "expect_column_values_to_be_between",
        "expect_column_values_to_be_dateutil_parseable",
        "expect_column_values_to_be_in_set",
        "expect_column_values_to_be_in_type_list",
        "expect_column_values_to_be_json_parseable",
        "expect_column_values_to_be_null",
        "expect_column_values_to_be_of_type",
        "expect_column_values_to_match_json_schema",
        "expect_column_values_to_match_regex",
        "expect_column_values_to_match_regex_list",
        "expect_column_values_to_match_strftime_format",
        "expect_column_values_to_not_be_in_set",
        "expect_column_values_to_not_be_null",
        "expect_column_values_to_not_match_regex",
        "expect_column_values_to_not_match_regex_list",
        "expect_multicolumn_sum_to_equal",
        "expect_multicolumn_values_to_be_equal",
        "expect_select_column_values_to_be_unique_within_record",
    }
)
_ABOUT_NAMES = frozenset(
    {
        "expect_column_to_exist",
        "expect_table_column_count_to_be_between",
        "expect_table_column_count_to_equal",
        "expect_table_columns_to_match_ordered_list",
        "expect_table_columns_to_match_set",
    }
)


def in_batches(kind: str, kwargs: Mapping[str, Any]) -> bool:
    """Whether an expectation is decided row by row, or by the names of the columns, so that batches can be evaluated.

    Others compare rows with each other (uniqueness, order), or with figures of the column (outliers). A condition on
    rows is pandas code that may do so too.
    """
    return kind in _ROW_WISE | _ABOUT_NAMES and not kwargs.get("row_condition")


def columns_named(kwargs: Mapping[str, Any]) -> list[str]:
    """The columns that the arguments of an expectation name, other than in a condition on rows."""
    named = [kwargs.get(argument) or [] for argument in COLUMN_ARGUMENTS]
    return [column for one in named for column in ([one] if isinstance(one, str) else one)]


def frame(batch: pa.Table, first: int, with_nulls: frozenset[str]) -> pd.DataFrame:
    """Rows of a table, from position `first` on, as pandas has them in the frame of the whole table.

    `with_nulls`: columns with nulls anywhere in the table, which make numbers of pandas floats, and flags objects.
    """
    positions = pd.RangeIndex(first, first + batch.num_rows)
    if not batch.num_columns:
        return pd.DataFrame(index=positions)
    rows: pd.DataFrame = batch.to_pandas(date_as_object=False)
    for field in batch.schema:
        if field.name in with_nulls and not batch[field.name].null_count:
            if pa.types.is_integer(field.type):
                rows[field.name] = rows[field.name].astype("float64")
            elif pa.types.is_boolean(field.type):
                rows[field.name] = rows[field.name].astype(object)
    rows.index = positions
    return rows


def merged(results: Sequence[Any]) -> Any:
    """The result of one expectation on the whole table from its results on all batches, in their order.

    As Great Expectations would give it, with the positions of all rows as an array. The first result is changed.
    """
    first, failed = results[0], [one for one in results if _raised(one)]
    if len(results) == 1 or failed or "element_count" not in first.result:
        return (failed or results)[0]
    figures = [one.result for one in results]
    elements, unexpected = (sum(one[name] or 0 for one in figures) for name in ("element_count", "unexpected_count"))
    has_missing = "missing_count" in first.result
    considered = elements - sum(one["missing_count"] for one in figures) if has_missing else elements
    mostly = first.expectation_config.kwargs.get("mostly", 1)
    output = _format_map_output(
        result_format=parse_result_format(RESULT_FORMAT),
        success=not considered or (considered - unexpected) / considered >= mostly,
        element_count=elements,
        nonnull_count=considered if has_missing else None,
        unexpected_count=unexpected,
        unexpected_list=[value for one in figures for value in one["unexpected_list"]][:MAX_RESULT_RECORDS],
    )
    first.success = output["success"]
    first.result = output["result"] | {POSITIONS: np.concatenate([one[POSITIONS] for one in figures])}
    return first


def _raised(result: Any) -> bool:
    # Great Expectations reports one exception, or one per metric.
    info = result.exception_info
    return any(one["raised_exception"] for one in ([info] if "raised_exception" in info else info.values()))
