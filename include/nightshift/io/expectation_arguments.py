"""The keyword arguments of expectations, with the values of their parameters in a partition.

An argument may be `{"$PARAMETER": name}` (Great Expectations' notation); the names there are: partition, next_day,
cutoff, previous_cutoff, oldest_label (the first day whose label may still be delivered), window_start, window_end, and
`<feed>.<column>` for the values of a column of another feed in the same partition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from nightshift.declare.feeds import Expectation
from nightshift.declare.use_case import UseCase
from nightshift.errors import ConfigurationError


def suite_parameters(
    use_case: UseCase, partition: date, column_values: Callable[[str, str], pa.Array]
) -> Callable[[str], Any]:
    """A function from the name in `{"$PARAMETER": name}` to its value; see the module docstring.

    `column_values(feed, column)` gives the distinct values of another feed's column. Days are
    midnights without a zone, moments are in UTC.
    """
    window_start, window_end = use_case.prediction_window(partition)
    parameters: dict[str, datetime | pa.Array] = {
        "partition": datetime.combine(partition, time()),
        "next_day": datetime.combine(partition + timedelta(days=1), time()),
        "cutoff": use_case.cutoff(partition),
        "previous_cutoff": use_case.cutoff(partition - timedelta(days=1)),
        "oldest_label": datetime.combine(partition - timedelta(days=use_case.corrections.largest_age_days), time()),
        "window_start": window_start,
        "window_end": window_end,
    }

    def value(name: str) -> Any:
        if name in parameters:
            return parameters[name]
        feed, dot, column = name.partition(".")
        if not dot or feed not in use_case.feed_names:
            raise ConfigurationError(
                "NS-CURATE-005",
                f"An expectation of {use_case.name} names the unknown parameter {name!r}; "
                f"available are {sorted(parameters)} and <feed>.<column>.",
            )
        parameters[name] = column_values(feed, column)
        return parameters[name]

    return value


def references(expectation: Expectation) -> dict[str, str]:
    """Argument -> name of the parameter that gives its value."""
    references = {name: value for name, value in expectation.kwargs.items() if isinstance(value, Mapping)}
    return {name: value["$PARAMETER"] for name, value in references.items() if "$PARAMETER" in value}


def resolved_arguments(expectation: Expectation, table: pa.Table, parameter: Callable[[str], Any]) -> dict[str, Any]:
    """The expectation's keyword arguments with the values of its parameters, for the rows of `table`."""
    kwargs = dict(expectation.kwargs)
    for argument, name in references(expectation).items():
        values = parameter(name)
        if "." in name:
            column = kwargs.get("column")
            values = _values(values, table[column] if column in table.column_names else None)
        kwargs[argument] = values
    return kwargs


def _values(values: pa.Array, column: pa.ChunkedArray | None) -> list[Any]:
    """The values of another feed's column; of those, if the types are the same, only such as `column` has."""
    if column is not None and column.type == values.type:
        # Great Expectations copies a value set many times.
        present = values.filter(pc.is_in(values, value_set=column.unique()))
        values = present if len(present) else values[:1]
    result: list[Any] = values.to_pylist()
    return result
