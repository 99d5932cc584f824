"""Each fault has one code, a literal where it is raised, and docs/errors.md lists all of them."""

from __future__ import annotations

import importlib.util
import pickle
import re
from collections import Counter
from pathlib import Path

import pytest

from nightshift.errors import DataContractError, NothingDelivered
from nightshift.local.airflow_api import RequestFailed

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("generate_errors", ROOT / "docs" / "generate_errors.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_error_is_raised_with_a_literal_code(generator):
    raised = generator.raised()
    assert len(raised) > 200
    wrong = [one for one in raised if one.code is None or not re.fullmatch(r"(NS-[A-Z]+-\d{3})?", one.code)]
    assert not wrong


def test_no_code_is_used_for_two_faults(generator):
    counts = Counter(one.code for one in generator.raised() if one.code)
    assert [code for code, times in counts.items() if times > 1] == []


def test_the_errors_of_a_module_are_of_one_room(generator):
    rooms = {(one.module, one.code.split("-")[1]) for one in generator.raised() if one.code}
    assert len(rooms) == len({module for module, _ in rooms})


def test_the_list_of_errors_is_up_to_date(generator):
    assert generator.PAGE.read_text(encoding="utf-8") == generator.page(), "run `make docs`"


@pytest.mark.parametrize("error", [NothingDelivered("NS-TEST-001", "no"), RequestFailed("NS-TEST-002", "no", 404)])
def test_an_error_survives_pickling(error):
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), vars(copy), str(copy)) == (type(error), vars(error), str(error))


def test_an_error_as_text_begins_with_its_code():
    error = DataContractError("NS-TEST-001", "two rows")
    assert (error.code, error.message, str(error)) == ("NS-TEST-001", "two rows", "NS-TEST-001: two rows")
