"""A publication under each fault: killed, twice at once, without store or warehouse. Whole nights: `make chaos`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from chaos import services as chaos_services
from chaos.faults import FAULTS, Fault
from chaos.scenes import SCENES, publication
from chaos.services import Services
from chaos.step_process import StepProcess, Work, preload
from chaos.trial import Trial
from nightshift.declare.discovery import load_use_case
from support.desk import D
from support.second_use_case import ROOT

KILLED, CUT = (next(fault for fault in FAULTS if fault.name == name) for name in ("killed", "warehouse-cut"))

pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def services() -> Iterator[Services]:
    preload(SCENES["publication"][1])
    with pytest.MonkeyPatch.context() as patch, chaos_services.running("chaos") as started:
        patch.setenv("NIGHTSHIFT_USE_CASE_ROOTS", str(ROOT))
        yield started


def trial_of(services: Services, step: str) -> Trial:
    """One of the steps of chaos.careless, in place of a night."""
    use_case = replace(load_use_case("late_returns"))
    services.empty()
    assert StepProcess(services.environment, Work(use_case, "chaos.careless.prepare", D, {})).wait().kind == "done"
    return Trial(services, use_case, lambda night: night.step(f"chaos.careless.{step}", D))


def test_step_is_killed_around_each_effect(services: Services) -> None:
    trial = trial_of(services, "careful")
    # Two files and a status; two statements and their commit.
    assert trial.writes == {"store": {"chaos.careless.careful": 3}, "warehouse": {"chaos.careless.careful": 3}}
    result = trial.disturbed(KILLED)
    assert (result.points, result.attempts, result.why) == (18, 19, "")


@pytest.mark.parametrize("fault", [KILLED, CUT], ids=lambda fault: fault.name)
def test_step_that_may_not_run_again_is_found(services: Services, fault: Fault) -> None:
    result = trial_of(services, "careless").disturbed(fault)
    assert re.search(r"late_returns\.written: \d+ rows in place of 1$", result.why, re.M)


@pytest.fixture(scope="module")
def trial(services: Services) -> Trial:
    services.empty()
    return publication(services)


def test_publication_is_the_same_again(trial: Trial) -> None:
    assert trial.undisturbed_again() == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_publication_survives(trial: Trial, fault: Fault) -> None:
    result = trial.disturbed(fault)
    assert not result.why
    assert result.points > 1
