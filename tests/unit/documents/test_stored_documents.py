"""Documents as earlier versions of Nightshift stored them, in `stored`, are still read, with all their values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nightshift.artifact import Document
from nightshift.core.inference.onnx_model import Signature
from nightshift.core.lifecycle.reproduction import value_differences
from nightshift.declare.models import ModelSpec
from nightshift.documents.check_drift import Drift
from nightshift.documents.promote import Review
from nightshift.documents.rules import AppliedRules
from nightshift.documents.train import ModelCard, Parity, Verification

STORED = Path(__file__).with_name("stored")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("card", ModelCard),
        ("drift", Drift),
        ("parity", Parity),
        ("review", Review),
        ("rules", AppliedRules),
        ("signature", Signature),
        ("spec", ModelSpec),
        ("unusable", Verification),
        ("verification", Verification),
    ],
)
def test_a_stored_document_is_read(name: str, kind: type[Document]) -> None:
    body = (STORED / f"{name}.json").read_bytes()
    written = json.loads(kind.from_bytes(body).to_files()[kind.FILE])
    # Fields that came later are added with their defaults.
    assert all(": absent became " in text for text in value_differences(json.loads(body), written))
