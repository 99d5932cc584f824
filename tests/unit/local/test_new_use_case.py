"""`nightshift new`: what it writes has no faults, whatever the sample's columns are called."""

from __future__ import annotations

import itertools
import subprocess
import sys
from datetime import date

import pandas as pd
import pytest

from nightshift.declare.discovery import load_use_case
from nightshift.errors import ConfigurationError
from nightshift.local.landing import producer
from nightshift.local.new_use_case import write
from nightshift.services.check_use_case import check
from support.errors import raises_code
from support.landing import read_landed

NUMBERS = itertools.count()


@pytest.fixture
def name(tmp_path, monkeypatch):
    monkeypatch.setenv("NIGHTSHIFT_USE_CASE_ROOTS", str(tmp_path))
    # A package that was imported once is not looked for again.
    return f"written_{next(NUMBERS)}"


def sample(path, **changes):
    """120 rows over ten days with awkward column names; `changes`: other columns, None for left out."""
    rows = range(120)
    columns = {
        "Date": [f"2025-03-{i // 12 + 1:02}" for i in rows],
        "Order": [f"o{i % 12}" for i in rows],
        "Temp (F)": [None if i % 7 == 0 else i / 3 for i in rows],
        "Group": ["abc"[i % 3] for i in rows],
        "from": [["x", "y"][i % 2] for i in rows],
        "row_key": [i % 5 for i in rows],
        "Sunny?": [i % 4 == 0 for i in rows],
        "seen": [f"2025-03-01T0{i % 9}:00:00Z" for i in rows],
        "note": [f"n{i}" for i in rows],
        "Broke": [i % 3 % 2 for i in rows],
    } | changes
    frame = pd.DataFrame({key: values for key, values in columns.items() if values is not None})
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
    return path


def test_without_a_sample_it_has_no_faults_and_is_formatted(name, tmp_path):
    files = write(name, tmp_path)
    assert check(name) == []
    assert all(path.is_file() for path in files)
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--check", "--line-length", "120", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_sample_gives_columns_types_and_expectations(name, tmp_path, suffix):
    of_csv = {} if suffix == ".csv" else {"Date": [date(2025, 3, i // 12 + 1) for i in range(120)]}
    write(name, tmp_path, sample(tmp_path / f"sample{suffix}", **of_csv))
    assert check(name) == []
    use_case = load_use_case(name)
    outcomes = use_case.feed("outcomes")
    landed = {column.name: column.type for column in outcomes.landed}
    assert landed["Date"] == "date"
    assert landed["Temp (F)"] == "float64"
    assert landed["Sunny?"] == "bool"
    assert landed["seen"] == ("timestamp" if suffix == ".csv" else "string")
    assert use_case.label == "broke"
    assert use_case.key_columns == ["date", "order_"]
    assert use_case.features.numeric == ("temp_f", "row_key_", "sunny", "weekday", "broke_rate")
    assert use_case.features.categorical == ("from_", "group_") or use_case.features.join_keys == ("from_",)
    assert {one.reason for one in outcomes.expectations} >= {"temp_f_out_of_range", "group__is_new"}


def test_its_producer_delivers_what_it_declares(name, tmp_path):
    write(name, tmp_path, sample(tmp_path / "sample.csv"))
    use_case = load_use_case(name)
    day = date(2025, 7, 1)
    delivered = {feed: read_landed(use_case.feed(feed), file, body) for feed, _, file, body in producer(use_case)(day)}
    assert {feed: table.rows.num_rows for feed, table in delivered.items()} == {"plan": 12, "outcomes": 12}
    assert delivered["outcomes"].rows["Date"].unique().to_pylist() == [day]
    assert delivered["plan"].rows["Date"].unique().to_pylist() == [date(2025, 7, 2)]
    # The day delivered is 120 days after the sample's third day; times move with it.
    assert {one.date() for one in delivered["outcomes"].rows["seen"].to_pylist()} == {date(2025, 6, 29)}
    assert sum(table.quarantine.num_rows for table in delivered.values()) == 0


@pytest.mark.parametrize(
    ("changes", "code", "option"),
    [
        ({"Broke": ["yes"] * 120, "Sunny?": None}, "NS-USECASE-019", "--label"),
        ({"Date": ["spring"] * 120}, "NS-USECASE-020", "--date"),
        ({"Order": ["same"] * 120, "note": None}, "NS-USECASE-021", "--key"),
    ],
)
def test_a_sample_that_lacks_something_is_rejected(name, tmp_path, changes, code, option):
    with raises_code(ConfigurationError, code, option):
        write(name, tmp_path, sample(tmp_path / "sample.csv", **changes))


def test_nothing_is_overwritten(name, tmp_path):
    write(name, tmp_path)
    with raises_code(ConfigurationError, "NS-USECASE-017"):
        write(name, tmp_path)
    with raises_code(ConfigurationError, "NS-USECASE-016", "Parcels"):
        write("Parcels", tmp_path)
    (tmp_path / "feature_repo" / "parcels.py").write_text("MINE = 1\n")
    with raises_code(ConfigurationError, "NS-USECASE-017", "parcels.py"):
        write("parcels", tmp_path)


@pytest.mark.parametrize("taken", ["class", "json", "nightshift"])
def test_a_name_that_cannot_be_imported_is_rejected(taken, tmp_path):
    with raises_code(ConfigurationError, "NS-USECASE-025", repr(taken)):
        write(taken, tmp_path)
    assert not (tmp_path / "include").exists()
