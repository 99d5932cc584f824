"""A night of many rows: memory of the tasks from features to publication, and what they add to COPY and onnxruntime.

    python benchmarks/load.py [--rows 1000000]

A use case of `nightshift new` gets one partition of made-up rows, on a real object store and PostgreSQL. Each task runs
in a process of its own, whose largest memory is read. Then, in the same minutes and on the same rows:

- publishing a new night, and replacing it, against COPY of ready bytes (PostgreSQL's binary form) into the same table;
  the replacement also against DELETE and COPY of these bytes, which is what PostgreSQL itself takes
- scores from a table of features against onnxruntime's on ready matrices, in the same batches

Exits with 1 if a task needs LARGEST_BYTES or more, or a ratio is below its aim.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from load_tasks import (
    CHUNK,
    LARGEST_BYTES,
    NAME,
    PARTITION,
    context_of,
    in_process,
    main,
    read_refs,
    run_task,
    write_refs,
)
from psycopg import sql

from nightshift.artifact import ArtifactRef
from nightshift.core.export.onnx_export import export_onnx
from nightshift.core.features.feature_computation import DELIVERED_ON, compute_features
from nightshift.core.inference.onnx_model import Signature, feed_of, load_session, score, score_in_batches
from nightshift.core.versions.version import fit_spec, signature_of_spec
from nightshift.declare.discovery import load_use_case
from nightshift.declare.use_case import UseCase
from nightshift.documents.predict import Calibration, ModelChoice, ScoredModel, SpecCalibration
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse.publications import Publication
from nightshift.io.warehouse.schema import Connection
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.services.live_scores import SCORES
from nightshift.steps.context import StepContext
from nightshift.steps.predict.score import BATCH_ROWS, FEATURES

DAY = PARTITION + timedelta(days=1)
TASKS = {
    "build_features": {},
    "publish_features": {"features": "build_features"},
    "score": {"model_choice": "model_choice", "calibration": "calibration"},
    "audit": {"scores": "score"},
    "publish_predictions": {"scores": "score", "audited": "audit"},
    "queue_reviews": {"published": "publish_predictions"},
}
LEAST_PUBLISHING, LEAST_SCORING = 0.7, 0.8
SCORED_ROWS = 500_000
FIRST_KEY = 10_000_000
"""Keys of equal length, so that they are in the same order as text and as numbers."""


def plan(start: int, rows: int) -> pa.Table:
    """The columns of some rows of the feed `plan`, and the label that follows from them."""
    rng = np.random.default_rng(start)
    distance, stops = rng.uniform(0, 300, rows), rng.integers(0, 20, rows)
    return pa.table(
        {
            "day": pa.array(np.full(rows, np.datetime64(DAY)), pa.date32()),
            "delivery": FIRST_KEY + start + np.arange(rows),
            "depot": rng.choice(["east", "north", "west"], rows),
            "vehicle": rng.choice(["bike", "truck", "van"], rows),
            "distance_km": distance,
            "stops": stops,
            "late": (rng.uniform(size=rows) < 1 / (1 + np.exp(3 - distance / 60 - stops / 20))).astype(np.int64),
        }
    )


def curated(feed: str, start: int, rows: int) -> pa.Table:
    """Rows of a feed as ingest publishes them. Only `outcomes` have the label."""
    table = plan(start, rows)
    table = table if feed == "outcomes" else table.drop_columns(["late"])
    table = table.append_column("landed_uri", pa.repeat(f"s3://bucket/landing/load_case/{feed}/part.parquet", rows))
    return table.append_column("landed_row", pa.array(start + np.arange(rows)))


def write(path: Path, rows: int, make: Callable[[int, int], pa.Table]) -> Path:
    """A Parquet file of that many rows, made in chunks."""
    with pq.ParquetWriter(path, make(0, 1).schema, compression="zstd") as writer:
        for start in range(0, rows, CHUNK):
            writer.write_table(make(start, min(CHUNK, rows - start)))
    return path


def fitted_graph(use_case: UseCase, signature: Signature) -> bytes:
    """The graph of the champion's spec, fitted on made-up rows."""
    rows = 20_000
    day = pa.repeat(pa.scalar(PARTITION, pa.date32()), rows)
    feeds = {feed: curated(feed, 0, rows).append_column(DELIVERED_ON, day) for feed in ("plan", "outcomes")}
    features, known = compute_features(use_case, feeds, PARTITION)["known_ahead"], plan(0, rows)
    columns = {
        "late": known["late"],
        "depot": known["depot"],
        "late_rate": pa.array(np.random.default_rng(1).uniform(size=rows)),
        "partition": pa.repeat(pa.scalar(PARTITION - timedelta(days=1)), rows),
    }
    for name, values in columns.items():
        features = features.append_column(name, values)
    fitted = fit_spec(use_case.champion, features, use_case.label, signature, as_of=PARTITION, threads=1)
    return export_onnx(fitted)


def prepare(context: StepContext, folder: Path, rows: int) -> dict[str, Any]:
    """Commit what the tasks need: curated rows, a version, its choice and calibration."""
    use_case, spec = context.use_case, context.use_case.champion
    plan_file = write(folder / "plan", rows, lambda start, n: curated("plan", start, n))
    files = {"plan.parquet": plan_file, "outcomes.parquet": curated("outcomes", 0, 1000)}
    context.commit("publish", kind="curated", files=files, rows=rows)
    signature = signature_of_spec(use_case, spec)
    version = {"model.onnx": fitted_graph(use_case, signature), **signature.to_files()}
    model = context.commit("fit", kind="version", files=version, variant=spec.spec_id)
    chosen = ScoredModel(
        role="champion", spec_id=spec.spec_id, model_version="2024-06-29-00000000", model=model,
        trained_on=PARTITION - timedelta(days=1), share=1.0,
    )  # fmt: skip
    choice = ModelChoice(primary=chosen, why="benchmark")
    # With these, predictions have a certainty, by which those to review are chosen.
    shifts = {PARTITION - timedelta(days=age): 0.1 * (age % 7 - 3) for age in range(1, use_case.certainty.days + 1)}
    calibration = Calibration(partition=PARTITION, specs={spec.spec_id: SpecCalibration(shifts=shifts)})
    return {
        "model_choice": context.commit("resolve_model", kind="model_choice", files=choice.to_files()),
        "calibration": context.commit("calibrate", kind="calibration", files=calibration.to_files()),
    }


def task(name: str, folder: Path, rows: int) -> None:
    """Run one task in this process."""
    # No partition before it, so that none of the window is missing.
    context = context_of(replace(load_use_case(NAME), first_partition=PARTITION))
    if name == "prepare":
        context.store.ensure_bucket()
        context.warehouse.migrate()
        write_refs(folder, prepare(context, folder, rows))
    else:
        run_task(context, folder, name, TASKS[name])


def seconds(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one call by a clock: of the wall, unless another is given."""
    started = clock()
    work()
    return clock() - started


def publishing(warehouse: Warehouse, scores: ArtifactRef, path: Path, folder: Path) -> dict[str, float]:
    """Seconds of a new night and of its replacement, and of the ready bytes: COPY (twice, before and after), and DELETE
    of the night followed by COPY, in one transaction."""
    (base,) = warehouse.publications(PARTITION, PARTITION)
    table = warehouse.table("predictions")
    ready = folder / "ready"
    unload = sql.SQL("COPY (SELECT * FROM {} ORDER BY day, delivery) TO STDOUT (FORMAT binary)").format(table)
    load = sql.SQL("COPY {} FROM STDIN (FORMAT binary)").format(table)
    with warehouse.connection() as connection, connection.cursor().copy(unload) as copy, ready.open("wb") as file:
        file.writelines(copy)

    def publish(digest: str) -> None:
        other = Publication.model_validate(base.model_dump() | {"scores": scores.model_copy(update={"sha256": digest})})
        reader = pq.ParquetFile(path)
        batches = pa.RecordBatchReader.from_batches(reader.schema_arrow, reader.iter_batches())
        warehouse.publish_predictions(other, batches)

    def copy_ready(connection: Connection) -> None:
        with connection.cursor().copy(load) as copy, ready.open("rb") as file:
            while block := file.read(2**20):
                copy.write(block)

    def raw() -> None:
        with warehouse.connection() as connection:
            copy_ready(connection)

    def deleted_and_raw() -> None:
        with warehouse.connection() as connection:
            connection.execute(sql.SQL("DELETE FROM {} WHERE day = %s").format(table), [base.prediction_date])
            copy_ready(connection)

    def emptied() -> None:
        with warehouse.connection() as connection:
            connection.execute(sql.SQL("TRUNCATE {}").format(table))

    measured: dict[str, float] = {}
    for name, work in (("COPY", raw), ("new night", lambda: publish("a")), ("COPY again", raw)):
        emptied()
        measured[name] = seconds(work)
    emptied()
    publish("b")
    measured["replacement"] = seconds(lambda: publish("c"))
    emptied()
    publish("d")
    measured["DELETE and COPY"] = seconds(deleted_and_raw)
    return measured


def scoring(store: ArtifactStore, refs: Mapping[str, ArtifactRef]) -> tuple[float, float]:
    """Processor seconds of scores from a table, and of onnxruntime's on ready matrices; the fastest of five runs each.

    One thread each, so that this is their time on an idle machine.
    """
    model = store.read_document(refs["model_choice"], ModelChoice).primary.model
    signature, session = store.read_document(model, Signature), load_session(store.read(model, "model.onnx"))
    with store.opened(refs["score"], FEATURES) as path:
        names = [*signature.numeric, *signature.categorical]
        table = pa.Table.from_batches([next(pq.ParquetFile(path).iter_batches(SCORED_ROWS, columns=names))])
    feed = feed_of(table, signature)
    runs = [
        (
            seconds(lambda: score(session, signature, table, batch_rows=BATCH_ROWS), time.process_time),
            seconds(lambda: score_in_batches(session, feed, BATCH_ROWS), time.process_time),
        )
        for _ in range(5)
    ]
    return min(ours for ours, _ in runs), min(bare for _, bare in runs)


def measure(folder: Path, rows: int) -> list[str]:
    """Run everything and print it; returns the aims that were missed."""
    missed = []
    in_process(__file__, "prepare", folder, rows)
    for name in TASKS:
        taken = in_process(__file__, name, folder, rows)
        print(f"{name:20} {rows:>11,} rows  {taken}", flush=True)
        missed += [f"memory of {name}"] if taken.largest_bytes >= LARGEST_BYTES else []
    context, refs = context_of(), read_refs(folder)
    with context.store.opened(refs["score"], SCORES) as path:
        took_by = publishing(context.warehouse, refs["score"], path, folder)
    copied = (took_by["COPY"] + took_by["COPY again"]) / 2
    replaced = took_by["DELETE and COPY"]
    print(f"COPY of ready bytes  {took_by['COPY']:8.2f} s and {took_by['COPY again']:.2f} s")
    print(f"DELETE and COPY      {replaced:8.2f} s  {replaced / took_by['replacement']:5.2f} of this rate: replacement")
    ours, bare = scoring(context.store, refs)
    for name, took, reference, least in (
        ("new night / COPY", took_by["new night"], copied, LEAST_PUBLISHING),
        ("replacement / COPY", took_by["replacement"], copied, LEAST_PUBLISHING),
        ("score / onnxruntime", ours, bare, LEAST_SCORING),
    ):
        ratio = reference / took
        print(f"{name:20} {took:8.2f} s  {ratio:5.2f} of the rate, aim {least}")
        missed += [name] if ratio < least else []
    return missed


if __name__ == "__main__":
    main(__doc__, task, measure)
