"""A dry run takes deliveries through all steps up to their scores, on servers of its own, and says what is wrong."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from nightshift import cli
from nightshift.declare.discovery import load_use_case
from nightshift.declare.use_case import UseCase
from nightshift.errors import ConfigurationError
from nightshift.local import dry_run
from nightshift.local.dry_run import of_folder, of_producer
from nightshift.local.new_use_case import write
from nightshift.local.processes import STACK_VARIABLES
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
    assert [fault.what for fault in faults] == ["ConfigurationError: NS-TEST-001: far enough"]
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
    assert fault["file"] == f"land of {PARTITION}"
    assert f"landing/{written.name}/plan/dt={PARTITION}/plan.csv" in fault["what"]
    assert "distance_km" in fault["what"]


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
