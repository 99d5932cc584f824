"""Rows of pipeline_daily and feeds_daily from manifests."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from nightshift.artifact import ArtifactRef, Attempt, Decision, FileEntry, Manifest
from nightshift.core.monitoring.pipeline_records import FEEDS_SCHEMA, PIPELINE_SCHEMA, feed_rows, pipeline_rows

REJECTED = Decision(status="rejected", reason="broken")


def manifest(step: str, *, rows: int = 0, variant: str = "", **more: Any) -> Manifest:
    ref = ArtifactRef(uri=f"s3://b/{step}/", sha256="0" * 64, kind=step, rows=rows)
    return Manifest(use_case="u", stage="s", step=step, partition="2020-03-02", variant=variant, ref=ref, **more)


def published(of: Manifest) -> tuple[Decision, Manifest | None]:
    return Decision(status="published", ref=of.ref), of


def landed(*uris: str, delivered: int = 10, duplicates: int = 1) -> Manifest:
    numbers = {"delivered": delivered, "quarantined": 2, "exact_duplicates": duplicates, "repeated_files": {}}
    numbers |= {"bytes": 700}
    refs = [ArtifactRef(uri=uri, sha256="0" * 64, kind="landed_file") for uri in uris]
    return manifest("land", metrics={"planes": numbers}, inputs={"planes": refs})


def test_a_published_step_has_the_numbers_of_its_manifest() -> None:
    attempt = Attempt(dag_id="u.predict", run_id="r", try_number=3, started_at="2020-03-03T03:00:05+01:00", seconds=2.5)
    files = [FileEntry(path=name, sha256="0" * 64, bytes=size) for name, size in (("a", 40), ("b", 2))]
    rows = pipeline_rows({("predict", "score", ""): published(manifest("score", rows=7, attempt=attempt, files=files))})
    assert rows.schema == PIPELINE_SCHEMA
    assert rows.to_pylist() == [
        {
            "stage": "predict", "step": "score", "variant": "", "status": "published",
            "started_at": datetime(2020, 3, 3, 2, 0, 5, tzinfo=UTC), "seconds": 2.5, "tries": 3, "rows": 7, "bytes": 42,
            "dag_id": "u.predict", "run_id": "r", "artifact_uri": "s3://b/score/",
        }
    ]  # fmt: skip


def test_a_rejected_step_has_a_row_without_numbers_and_a_rejected_variant_none() -> None:
    rows = pipeline_rows(
        {
            ("ingest", "publish", ""): (REJECTED, None),
            ("train", "append_training_rows", "month"): (REJECTED, None),
            ("train", "fit", "spec-1"): published(manifest("fit", variant="spec-1")),
        }
    ).to_pylist()
    assert [(row["step"], row["variant"], row["status"], row["seconds"]) for row in rows] == [
        ("publish", "", "rejected", None),
        ("fit", "spec-1", "published", 0.0),
    ]


def test_quarantined_rows_are_those_that_are_neither_published_nor_duplicates() -> None:
    curated = manifest("publish", metrics={"rows": {"planes": 6}})
    uris = ("s3://b/landing/u/planes/dt=2020-02-28/x.csv", "s3://b/landing/u/planes/dt=2020-03-01/a=1/y.csv")
    rows = feed_rows(landed(*uris), curated)
    assert rows.schema == FEEDS_SCHEMA
    assert rows.to_pylist() == [
        {
            "feed": "planes", "delivery": date(2020, 3, 1), "files": 2, "delivered": 10, "duplicates": 1,
            "published": 6, "quarantined": 3, "bytes": 700,
        }
    ]  # fmt: skip


@pytest.mark.parametrize("uris", [(), ("s3://b/u/predict/score/2020-03-01/0123/",)])
def test_an_undecided_partition_and_a_feed_that_is_not_landed(uris: tuple[str, ...]) -> None:
    (row,) = feed_rows(landed(*uris), None).to_pylist()
    assert (row["delivery"], row["files"], row["published"], row["quarantined"]) == (None, len(uris), None, None)
    assert feed_rows(None, None).num_rows == 0
