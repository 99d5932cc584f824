"""Writes a small runnable use case as a starting point, from a sample of data or from generated data.

A sample is a table of past rows with their outcomes: a date, a column that identifies a row of a day, a label of 0
and 1, and further columns. Two feeds are made from it: `plan` (tomorrow's rows without the label) and `outcomes`.
"""

from __future__ import annotations

import importlib.util
import json
import keyword
import re
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import jinja2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nightshift.core.checks.declaration_checks import IDENTIFIER, OF_PREDICTIONS, OF_TRAINING_ROWS
from nightshift.core.features.feature_computation import DELIVERED_ON
from nightshift.core.ingest.landed_table import ARROW_TYPES
from nightshift.declare.feeds import Expectation
from nightshift.errors import ConfigurationError

TEMPLATES = Path(__file__).parent / "templates"
MOST_CATEGORIES = 50
WHOLE = re.compile(r"U?(TINY|SMALL|BIG)?INT(EGER)?")
TAKEN = {*OF_PREDICTIONS, *OF_TRAINING_ROWS, DELIVERED_ON, "landed_uri", "landed_row", "row_key"}


@dataclass(frozen=True)
class SampleColumn:
    """A column of the sample: its name in the files, its name as curated, its type as declared."""

    landed: str
    name: str
    type: str
    nullable: bool
    is_label: bool = False

    @property
    def select(self) -> str:
        """The column in normalise SQL."""
        cast = "::bigint" if self.is_label and self.type != "int64" else ""
        landed = self.landed if self.landed == self.name else f'"{self.landed}"'
        return f"{landed}{cast}" + (f" as {self.name}" if cast or self.landed != self.name else "")


def write(
    name: str, root: Path, sample: Path | None = None, label: str | None = None, day: str | None = None,
    key: str | None = None,
) -> list[Path]:  # fmt: skip
    """Write the use case below a root; returns the files. `label`, `day`, `key`: columns of the sample.

    Raises ConfigurationError for an invalid name, a use case that exists already, or a sample without a date, a key or
    a label.
    """
    if not IDENTIFIER.fullmatch(name) or name != name.lower():
        raise ConfigurationError("NS-USECASE-016", f"{name!r} cannot name a use case: use small letters, digits and _.")
    folder, definitions = root / "include" / name, root / "feature_repo" / f"{name}.py"
    if present := next((path for path in (folder, definitions) if path.exists()), None):
        raise ConfigurationError("NS-USECASE-017", f"{present} exists already: choose another name, or remove it.")
    # A use case is imported under its name.
    if keyword.iskeyword(name) or importlib.util.find_spec(name):
        raise ConfigurationError(
            "NS-USECASE-025", f"{name!r} is a word of Python or the name of a package: choose another name."
        )
    table = _generated() if sample is None else _read(sample)
    context = _context(name, table, label, day, key)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip

    environment.filters |= {"quoted": partial(json.dumps, ensure_ascii=False), "names": _tuple}

    def render(template: str, **more: Any) -> str:
        return environment.get_template(f"{template}.j2").render(**context, **more)

    plan = [column for column in context["columns"] if not column.is_label]
    files = {
        folder / "__init__.py": f'"""{context["title"]}."""\n',
        folder / "use_case.py": render("use_case.py"),
        folder / "replay.py": render("replay.py"),
        folder / "sql" / "plan.sql": render("normalise.sql", feed="plan", feed_columns=plan),
        folder / "sql" / "outcomes.sql": render("normalise.sql", feed="outcomes", feed_columns=context["columns"]),
        definitions: render("feature_repo.py"),
    }
    names = ("prelude", "known_ahead", *(["history"] if context["group"] else []), "training_spine", "scoring_spine")
    files |= {folder / "sql" / f"{one}.sql": render(f"{one}.sql") for one in names}
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    pq.write_table(table, folder / "sample.parquet")
    return [*files, folder / "sample.parquet"]


def _tuple(names: list[str]) -> str:
    return f"({', '.join(map(json.dumps, names))}{',' if len(names) == 1 else ''})"


def _generated() -> pa.Table:
    """Generated deliveries of three depots, some of which are late."""
    random, days, rows = np.random.default_rng(1), 60, 60
    n = days * rows
    distance, stops = random.gamma(3.0, 20.0, n).round(1), random.integers(1, 20, n)
    depot = random.choice(["east", "north", "west"], n)
    chance = 1 / (1 + np.exp(-(distance / 30 + stops / 6 + 1.2 * (depot == "north") - 4.5)))
    first = date(2024, 1, 1)
    return pa.table(
        {
            "day": pa.array([first + timedelta(days=i // rows) for i in range(n)], pa.date32()),
            "delivery": pa.array([i % rows + 1 for i in range(n)], pa.int64()),
            "depot": depot,
            "vehicle": random.choice(["bike", "truck", "van"], n),
            "distance_km": distance,
            "stops": stops,
            "late": (random.random(n) < chance).astype(int),
        }
    )


def _read(path: Path) -> pa.Table:
    """The sample, its columns converted to the types of declarations."""
    reader = "read_parquet" if path.suffix == ".parquet" else "read_csv"
    try:
        with duckdb.connect(config={"threads": 1}) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            sample = connection.execute(f"FROM {reader}($path)", {"path": str(path)})
            casts = [f'"{name}"::{_sql_type(str(kind))} AS "{name}"' for name, kind, *_ in sample.description or []]
            query = f"SELECT {', '.join(casts)} FROM {reader}($path)"
            return connection.execute(query, {"path": str(path)}).to_arrow_table()
    except duckdb.Error as error:
        raise ConfigurationError(
            "NS-USECASE-018", f"{path} cannot be read as a sample: {error}. Give a CSV or Parquet file."
        ) from error


def _sql_type(duckdb_type: str) -> str:
    if WHOLE.fullmatch(duckdb_type):
        return "bigint"
    if duckdb_type.startswith(("FLOAT", "DOUBLE", "DECIMAL", "HUGEINT")):
        return "double"
    if duckdb_type.startswith("TIMESTAMP"):
        return "timestamptz"
    return duckdb_type.lower() if duckdb_type in ("BOOLEAN", "DATE") else "varchar"


def _context(name: str, table: pa.Table, label: str | None, day: str | None, key: str | None) -> dict[str, Any]:
    """The variables of the templates."""
    label, day = _label(table, label), _day(table, day)
    key = _key(table, day, label, key)
    clean = _clean_names(table.column_names)
    columns = [
        SampleColumn(
            one.name,
            clean[one.name],
            next(name for name, kind in ARROW_TYPES.items() if kind == one.type),
            one.name == label or bool(table[one.name].null_count),
            one.name == label,
        )
        for one in table.schema
    ]
    of = {column.landed: column for column in columns}
    others = [column for column in columns if column.landed not in (label, day, key)]
    distinct = {column.name: pc.count_distinct(table[column.landed]).as_py() for column in others}
    texts = [c.name for c in others if c.type == "string" and 2 <= distinct[c.name] <= MOST_CATEGORIES]
    group = min(texts, key=distinct.__getitem__, default="")
    weekday = "weekday" if "weekday" not in distinct else "weekday_of_plan"
    days = table[day].unique()
    return {
        "name": name,
        "title": name.replace("_", " ").capitalize(),
        "columns": columns,
        "others": others,
        "label": of[label].name,
        "label_column": of[label],
        "day": of[day].name,
        "day_column": of[day],
        "key": of[key],
        "numeric": [*(c.name for c in others if c.type in ("int64", "float64", "bool")), weekday],
        "categorical": [text for text in texts if text != group],
        "group": group,
        "weekday": weekday,
        "expectations": [e for column in others if (e := _expectation(column, table[column.landed]))],
        "times": [c.landed for c in others if c.type == "timestamp"],
        "first": pc.min(days).as_py(),
        "least_rows": max(1, min(20, table.num_rows // len(days) // 2)),
    }


def _label(table: pa.Table, label: str | None) -> str:
    def is_flag(name: str) -> bool:
        values = set(table[name].drop_null().unique().to_pylist())
        return not pa.types.is_string(table[name].type) and values in ({0, 1}, {False, True})

    flags = [name for name in table.column_names if is_flag(name)]
    if (label and label not in flags) or not flags:
        raise ConfigurationError(
            "NS-USECASE-019",
            f"The sample needs a label with the values 0 and 1, both of them: {label or 'no column'} has them. "
            f"Columns that could be one: {', '.join(flags) or 'none'}; name one with --label.",
        )
    return label or flags[-1]


def _day(table: pa.Table, day: str | None) -> str:
    dates = [one.name for one in table.schema if pa.types.is_date(one.type) and not table[one.name].null_count]
    if (day and day not in dates) or not dates:
        raise ConfigurationError(
            "NS-USECASE-020",
            f"The sample needs a column with the day of each row, as YYYY-MM-DD, without gaps: it has "
            f"{', '.join(dates) or 'none'}. Name one with --date.",
        )
    return day or dates[0]


def _key(table: pa.Table, day: str, label: str, key: str | None) -> str:
    def names_rows(name: str) -> bool:
        suits = pa.types.is_string(table[name].type) or pa.types.is_integer(table[name].type)
        if not suits or name in (day, label) or table[name].null_count:
            return False
        return bool(table.group_by([day, name]).aggregate([]).num_rows == table.num_rows)

    names = [name for name in table.column_names if names_rows(name)]
    if (key and key not in names) or not names:
        raise ConfigurationError(
            "NS-USECASE-021",
            f"The sample needs a column of text or whole numbers that is different for all rows of a day: "
            f"{', '.join(names) or 'none is'}. Add one, or name one with --key.",
        )
    return key or names[0]


def _clean_names(names: list[str]) -> dict[str, str]:
    """Unique plain SQL identifiers for the columns."""
    with duckdb.connect() as connection:
        query = "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category <> 'unreserved'"
        taken = {row[0] for row in connection.execute(query).fetchall()} | TAKEN
    clean: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"\W+", "_", name.lower(), flags=re.ASCII).strip("_")[:50] or "column"
        plain = f"c_{plain}" if plain[0].isdigit() else plain
        while plain in taken or plain in clean.values():
            plain += "_"
        clean[name] = plain
    return clean


def _expectation(column: SampleColumn, values: pa.ChunkedArray) -> Expectation | None:
    """An expectation from the sample: a range twice as wide as the column's, or its set of values; else None."""
    if column.type in ("int64", "float64") and values.null_count < len(values):
        low, high = pc.min(values).as_py(), pc.max(values).as_py()
        margin = (high - low) / 2 or 1
        bounds = {"min_value": float(f"{low - margin:.6g}"), "max_value": float(f"{high + margin:.6g}")}
        arguments = {"column": column.name, **bounds}
        reason = f"{column.name}_out_of_range"
        return Expectation("expect_column_values_to_be_between", arguments, "quarantine", reason)
    if column.type == "string" and 0 < pc.count_distinct(values).as_py() <= MOST_CATEGORIES:
        arguments = {"column": column.name, "value_set": sorted(values.drop_null().unique().to_pylist())}
        return Expectation("expect_column_values_to_be_in_set", arguments, "warning", f"{column.name}_is_new")
    return None
