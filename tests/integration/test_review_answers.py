"""Answers to reviews become labels of training rows, on real services; delivered labels count more."""

from __future__ import annotations

import importlib
from datetime import date, timedelta

import pyarrow as pa
import pytest

from nightshift.artifact import ArtifactRef
from nightshift.core.features.training_rows import newest_rows
from nightshift.errors import ConfigurationError
from nightshift.services.recorded import recorded_manifests
from nightshift.services.training_rows import load_rows
from nightshift.steps.context import StepContext
from nightshift.steps.operator import reproduce
from support.errors import raises_code
from support.history import TRAINED
from support.nights import Nights

NIGHT = TRAINED + timedelta(days=1)
NEXT = NIGHT + timedelta(days=1)
LATER = NIGHT + timedelta(days=2)
BOOKED = NEXT
"""The day that NIGHT predicts, and whose labels NEXT delivers."""
UNKNOWN, KNOWN = 1, 2
"""A booking of BOOKED whose label NEXT does not deliver, and one whose label it does."""

pytestmark = pytest.mark.filterwarnings("default")


def returned(nights: Nights, booking: int) -> bytes:
    """The line of a booking of BOOKED in the delivery of its returns."""
    replay = {feed: body for feed, _, _, body in _deliveries(nights, NEXT)}["returns"]
    return next(line for line in replay.splitlines(keepends=True) if line.startswith(f"{BOOKED},{booking},".encode()))


def _deliveries(nights: Nights, partition: date) -> list[tuple[str, str, str, bytes]]:
    return list(importlib.import_module(f"{nights.use_case.name}.replay").deliveries(partition))


def label_of(line: bytes) -> int:
    return int(line.rstrip().rpartition(b",")[2])


@pytest.fixture
def answered(trained_nights: Nights) -> Nights:
    """NIGHT is predicted, two of its bookings are answered, each with the label that it does not have; NEXT is ingested
    without the label of one of them."""
    nights = trained_nights
    lines = {booking: returned(nights, booking) for booking in (UNKNOWN, KNOWN)}
    nights.deliver([NIGHT])
    nights.ingest(NIGHT)
    nights.materialize(NIGHT)
    scores = nights.predict(NIGHT)
    context = StepContext(nights.use_case, nights.settings, nights.store, NIGHT)
    keys = {"booking_date": pa.array([BOOKED] * 2, pa.date32()), "booking": [UNKNOWN, KNOWN]}
    queued = {"score": [0.5, 0.5], "certainty": [0.5, 0.5], "out_of_domain": [False, True], "out_of_range": [0, 1]}
    assert context.warehouse.queue_reviews(NIGHT, scores, pa.table({**keys, **queued, "reason": ["a test"] * 2}))
    for booking, line in lines.items():
        answer(nights, NIGHT, booking, 1 - label_of(line))
    nights.deliver([NEXT], lambda feed, body: body.replace(lines[UNKNOWN], b"") if feed == "returns" else body)
    nights.ingest(NEXT)
    return nights


def answer(nights: Nights, partition: date, booking: int, label: int) -> ArtifactRef:
    ref: ArtifactRef = nights.step(
        "answer_review", partition, key=[str(BOOKED), str(booking)], answer=label, decided_by="hand:ann"
    )
    return ref


def rows_of(nights: Nights, ref: ArtifactRef) -> dict[int, dict[str, object]]:
    return {row["booking"]: row for row in nights.store.read_table(ref, "rows.parquet").to_pylist()}


def test_an_answer_is_a_label_unless_one_was_delivered(answered: Nights) -> None:
    nights = answered
    ref = nights.append(NEXT)
    rows = rows_of(nights, ref)
    assert len(rows) == 40
    row = rows[UNKNOWN]
    assert row["is_late"] == 1 - label_of(returned(nights, UNKNOWN))
    assert (row["partition"], row["known_on"], row["booking_date"]) == (NIGHT, NEXT, BOOKED)
    # The features of the partition that predicted it.
    assert None not in (row["hours"], row["customer"], row["branch_late_rate"])
    assert rows[KNOWN]["is_late"] == label_of(returned(nights, KNOWN))
    manifest = nights.store.manifest(ref)
    assert [one.kind for one in manifest.inputs["answers"]] == ["answers"]

    # What was used stays as it is: no more answers for NEXT, and the same bytes whatever is answered later.
    with raises_code(ConfigurationError, "NS-REVIEW-004"):
        answer(nights, NIGHT, UNKNOWN, 0)
    no_answers = nights.store.read_table(manifest.inputs["answers"][0], "answers.parquet").slice(0, 0)
    nights.store.commit(
        use_case=nights.use_case.name, step="answer_review", partition=NEXT, kind="answers",
        files={"answers.parquet": no_answers},
    )  # fmt: skip
    (to_rebuild,), manifests = recorded_manifests(nights.store, ref, ["append_training_rows"], NEXT.isoformat())
    context = StepContext(nights.use_case, nights.settings, nights.store, NEXT)
    assert reproduce._rebuild(context, to_rebuild, manifests) == []
    # Without the answers of then, it would be another file.
    assert UNKNOWN not in rows_of(nights, nights.append(NEXT))


def test_a_label_delivered_later_counts_more_than_the_answer(answered: Nights) -> None:
    nights = answered
    before = nights.append(NEXT)
    late = returned(nights, UNKNOWN)
    nights.materialize(NEXT)
    nights.deliver([LATER], lambda feed, body: body + late if feed == "returns" else body)
    nights.ingest(LATER)
    rows = newest_rows(
        load_rows(nights.store, nights.use_case, [before, nights.append(LATER)]), nights.use_case.key_columns, LATER
    )
    labels = {(row["booking_date"], row["booking"]): row["is_late"] for row in rows.to_pylist()}
    assert labels[BOOKED, UNKNOWN] == label_of(late)
    assert len(labels) == rows.num_rows == 80
