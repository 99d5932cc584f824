"""A dry run takes deliveries through all steps up to their scores, on servers of its own, and says what is wrong."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import os
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from nightshift import cli
from nightshift.core.backtest.walk import History
from nightshift.declare.discovery import load_use_case
from nightshift.declare.use_case import UseCase
from nightshift.errors import ConfigurationError
from nightshift.io.artifact_store import ArtifactStore
from nightshift.local import dry_run
from nightshift.local.dry_run import of_folder, of_producer
from nightshift.local.new_use_case import write
from nightshift.local.processes import STACK_VARIABLES
from nightshift.partitions import partition_range
from nightshift.services.check_use_case import check
from nightshift.services.training_rows import known_rows, load_rows
from nightshift.steps.context import StepContext
from nightshift.steps.train import build_training_set
from support.errors import raises_code

NUMBERS = itertools.count()
PARTITION = date(2024, 1, 23)


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[UseCase]:
    """What `nightshift new` writes. What names a stack in the environment is the same afterwards."""
    monkeypatch.setenv("NIGHTSHIFT_USE_CASE_ROOTS", str(tmp_path))
    name = f"dry_{next(NUMBERS)}"
    write(name, tmp_path)
    before = _stack_variables()
    yield load_use_case(name)
    assert _stack_variables() == before


def _stack_variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(STACK_VARIABLES)}


@pytest.fixture
def landing(written: UseCase, tmp_path: Path) -> Path:
    """The deliveries of one partition, as files."""
    for feed, dt, name, body in of_producer(written)(PARTITION, PARTITION):
        path = tmp_path / "landing" / feed / f"dt={dt}" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(body)
    return tmp_path / "landing"


def test_a_written_use_case_is_scored(written: UseCase, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", written.name, "--partition", str(PARTITION), "--json"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert out["faults"] == []
    assert out["dry_run"]["rows"] == 60
    assert {spec.rpartition("-")[0] for spec in out["dry_run"]["versions"]} == {"trees", "linear"}


@pytest.fixture
def from_cutoff_to_cutoff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UseCase:
    """What `nightshift new` writes for hourly readings, changed as docs/your-use-case.md says for such a window."""
    monkeypatch.setenv("NIGHTSHIFT_USE_CASE_ROOTS", str(tmp_path))
    name = f"dry_{next(NUMBERS)}"
    sample = tmp_path / "sample.parquet"
    pq.write_table(_readings(CUTOFF, CUTOFF + timedelta(days=60)), sample)
    write(name, tmp_path, sample)
    folder = tmp_path / "include" / name
    day = "    (observed_at - interval 3 hours)::date as day,\n"
    for file, old, new in (
        ("use_case.py", 'prediction_date="day",', PLANTED),
        ("use_case.py", "holdout_days=7, minimum_days=21", "holdout_days=2, minimum_days=5"),
        ("sql/plan.sql", "    day,\n", day),
        ("sql/outcomes.sql", "    day,\n", day),
        ("sql/scoring_spine.sql", "    day,\n", "    day,\n    observed_at,\n"),
        ("sql/training_spine.sql", "    day,\n", "    day,\n    observed_at,\n"),
    ):
        text = (folder / file).read_text()
        assert text.count(old) == 1, (file, old)
        (folder / file).write_text(text.replace(old, new))
    return load_use_case(name)


CUTOFF = datetime(2024, 1, 1, 3, tzinfo=UTC)
PLANTED = 'prediction_date="day", window="cutoff_to_cutoff", prediction_moment="observed_at",'


def _readings(first: datetime, end: datetime) -> pa.Table:
    """Two stations' readings of each hour; `foggy` depends on the wind, in part."""
    hours = [first + timedelta(hours=n) for n in range(int((end - first).total_seconds()) // 3600)]
    rows = []
    for hour in hours:
        for number, station in enumerate(("north", "south")):
            chance = random.Random(f"{hour}{station}")
            wind = round(chance.uniform(0, 20), 1)
            rows.append(
                {
                    "day": hour.date(),
                    "reading": 2 * hour.hour + number,
                    "observed_at": hour,
                    "station": station,
                    "wind": wind,
                    "foggy": int(chance.uniform(0, 20) > wind),
                }
            )
    return pa.Table.from_pylist(rows)


def _windows(first: date, last: date) -> dry_run.Landed:
    """The plan of each partition's window, and the readings up to an hour before its cutoff."""
    for day in partition_range(first, last):
        cutoff = datetime.combine(day + timedelta(days=1), time(3), UTC)
        known = cutoff - timedelta(hours=1)
        tables = {
            "plan": _readings(cutoff, cutoff + timedelta(days=1)).drop_columns(["foggy"]),
            "outcomes": _readings(known - timedelta(days=1), known),
        }
        for feed, rows in tables.items():
            sink = io.BytesIO()
            pq.write_table(rows, sink)
            yield feed, str(day), f"{feed}.parquet", sink.getvalue()


def test_a_window_from_cutoff_to_cutoff_is_scored(
    from_cutoff_to_cutoff: UseCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    training_rows: list[pa.Table] = []
    build = build_training_set.run

    def build_and_remember(context: StepContext, **refs: Any) -> Any:
        training_rows.append(
            load_rows(context.store, context.use_case, known_rows(context.store, context.use_case, LAST_TRAINED).parts)
        )
        return build(context, **refs)

    monkeypatch.setattr("nightshift.steps.train.build_training_set.run", build_and_remember)
    use_case = from_cutoff_to_cutoff
    assert check(use_case.name) == []
    faults, found = dry_run.dry_run(use_case, LAST_TRAINED + timedelta(days=1), _windows, print)
    # So few rows may not pass the version gates; all else has no fault.
    assert {fault.code for fault in faults} <= {"NS-USECASE-060"}
    assert (found.rows, found.rejected, found.notes) == (48, {}, [])
    (rows,) = training_rows
    # The readings of the last hour before the cutoff are known one partition later than the others.
    delays = {(row["reading"] // 2, (row["known_on"] - row["partition"]).days) for row in rows.to_pylist()}
    assert delays == {(hour, 2 if hour == 2 else 1) for hour in range(24)}
    history = History.of(rows, use_case.key_columns, use_case.label)
    fitted = history.fitted_on(LAST_TRAINED, least_partitions=1)
    assert fitted is not None
    assert max(fitted["known_on"].to_pylist()) == LAST_TRAINED
    newest = fitted.filter(pc.equal(fitted["partition"], pc.max(fitted["partition"])))
    assert newest.num_rows == 46


LAST_TRAINED = date(2024, 1, 9)


def test_partitions_without_labels_are_made_up_for(written: UseCase, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []

    def build_training_set(*_: Any, **__: Any) -> None:
        raise ConfigurationError("NS-TEST-001", "far enough")

    monkeypatch.setattr("nightshift.steps.train.build_training_set.run", build_training_set)
    few = dataclasses.replace(written, training=dataclasses.replace(written.training, minimum_days=6, holdout_days=3))
    late = date(2024, 2, 18)

    def source(first: date, last: date) -> dry_run.Landed:
        # A file that cannot be read rejects its partition.
        for feed, dt, name, body in of_producer(written)(first, last):
            yield feed, dt, name, b"" if dt == late.isoformat() else body

    faults, found = dry_run.dry_run(few, date(2024, 2, 22), source, lines.append)
    assert [fault.code for fault in faults] == ["NS-TEST-001"]
    assert list(found.rejected) == [str(late)]
    assert "2024-02-15 to 2024-02-21: ingest and materialize" in lines
    # Neither it nor the day that it predicts has training rows.
    assert "2024-02-13 to 2024-02-14: ingest and materialize" in lines


def test_a_file_that_breaks_the_contract_is_named(
    written: UseCase, landing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file,) = (landing / "plan" / f"dt={PARTITION}").iterdir()
    file.with_suffix(".csv").write_text("day,delivery,depot,vehicle,distance,stops\n2024-01-24,1,east,van,2.0,1\n")
    file.unlink()
    argv = ["check", written.name, "--partition", str(PARTITION), "--landing", str(landing), "--json"]
    assert cli.main(argv) == 1
    (fault,) = json.loads(capsys.readouterr().out)["faults"]
    assert (fault["file"], fault["code"]) == (f"land of {PARTITION}", "NS-LAND-018")
    assert f"landing/{written.name}/plan/dt={PARTITION}/plan.csv" in fault["what"]
    assert "distance_km" in fault["what"]


def test_a_bucket_without_deliveries_of_the_use_case_is_not_used(
    written: UseCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    landed = ["plan"]
    monkeypatch.setattr(dry_run, "load_settings", cache(lambda: None))
    monkeypatch.setattr(ArtifactStore, "__init__", lambda self, settings: None)
    monkeypatch.setattr(ArtifactStore, "folders", lambda self, prefix: landed)
    for _ in range(2):
        dry_run.source_of(written, None, {}, lines.append)
        landed.clear()
    assert ["replay.py" in line for line in lines] == [False, True]


def test_too_early_a_partition_is_rejected(written: UseCase, landing: Path) -> None:
    with raises_code(ConfigurationError, "NS-USECASE-014", "2024-01-23"):
        dry_run.dry_run(written, date(2024, 1, 22), of_folder(written, landing), print)


def test_other_folders_of_a_producer_are_ignored(written: UseCase, landing: Path) -> None:
    (landing / "plan" / "dt=unfinished").mkdir()
    (landing / "plan" / "dt=unfinished" / "plan.parquet").write_bytes(b"PAR1")
    files = of_folder(written, landing)(PARTITION, PARTITION)
    assert [(feed, dt) for feed, dt, _, _ in files] == [("plan", str(PARTITION)), ("outcomes", str(PARTITION))]


def test_an_empty_folder_is_rejected(written: UseCase, tmp_path: Path) -> None:
    with raises_code(ConfigurationError, "NS-USECASE-015", "plan/dt=<partition>/, outcomes/dt=<partition>/"):
        of_folder(written, tmp_path)
