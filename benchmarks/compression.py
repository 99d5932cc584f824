"""What compression is worth on real flights: quality over weekly origins of 2013, size and rows per second on one core.

    python benchmarks/compression.py [--origins 20] [--days 300] [--rows FILE]

Models: the strongest tree ensemble in XGBoost itself (the better one of the declared and the default settings), the
same trees compiled to C (TL2cgen), plain logistic regression, the additive form fitted on labels, the additive
student distilled from the estimators, and that one on fewer features. All are fitted at each origin on the
partitions before it and scored on the seven after it; intervals are of paired differences per partition, in moving
blocks of seven. Labels are those known on the last day. Costs are measured at the newest origin, in one
process on one thread, inputs ready: read the ratios.

Exits with 1 unless an additive student has 10 times the rows per second and a 20th of the size of the tree ensemble
without a significant loss of log loss or AUC. The rows are computed from the replayed deliveries by the
use case's own SQL, without any service, and written to FILE; a FILE that is there is read instead.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import date, timedelta
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from flight_rows import between, curated_feeds, features_of, with_features

from nightshift.core.features.feature_computation import compute_spine
from nightshift.core.inference.onnx_model import load_session, score
from nightshift.core.models.fitted import FittedModel
from nightshift.core.models.preprocessing import feature_frame
from nightshift.core.paired_differences import moving_blocks
from nightshift.core.search.measurement import BATCH_REPEATS, BATCH_ROWS, measure, measure_native
from nightshift.core.search.race import partition_scores
from nightshift.core.versions.version import SharedFits, export_version, signature_of_spec
from nightshift.declare.discovery import load_use_case
from nightshift.declare.models import ModelSpec
from nightshift.declare.use_case import UseCase
from nightshift.documents.search import PartitionScore
from nightshift.partitions import partition_range

MEASUREMENTS = 4
"""The fastest of so many counts: other work on the machine only ever slows a measurement down."""

FASTER, SMALLER = 10, 20
TREES = ("xgboost_declared", "xgboost_default")
STUDENTS = ("distilled_additive", "distilled_additive_small")
LARGEST_COMPILED_DIFFERENCE = 1e-5


def build_rows(use_case: UseCase, days: int) -> pa.Table:
    """Training rows of the first `days` partitions but the last, sorted by partition."""
    partitions = partition_range(use_case.first_partition, use_case.first_partition + timedelta(days=days - 1))
    halves = [partitions[: days // 2], partitions[days // 2 :]]
    with ProcessPoolExecutor(2) as pool:
        tables = [tables for half in pool.map(features_of, halves) for tables in half]
    spine = compute_spine(use_case, use_case.training_spine, curated_feeds(use_case, partitions), partitions[-1])
    rows = spine.filter(pc.is_in(spine["partition"], value_set=pa.array(partitions[:-1], pa.date32())))
    joined = with_features(use_case, rows, tables)
    return joined.sort_by([("partition", "ascending"), *((name, "ascending") for name in use_case.key_columns)])


def specs_of(use_case: UseCase) -> dict[str, ModelSpec]:
    """The models compared, by name."""
    parameters = {name: use_case.champion.parameters.get(name, {}) for name in ("xgboost",)}
    both = ("logistic_regression", "xgboost")

    def spec(name: str, estimators: tuple[str, ...], *compression: str, tuned: bool = True) -> ModelSpec:
        own = parameters if tuned and "xgboost" in estimators else {}
        return ModelSpec(name=name, estimators=estimators, compression=compression, parameters=own)

    return {
        "xgboost_declared": spec("xgboost_declared", ("xgboost",)),
        "xgboost_default": spec("xgboost_default", ("xgboost",), tuned=False),
        "logistic_regression": spec("logistic_regression", ("logistic_regression",)),
        "additive_on_labels": spec("additive_on_labels", ("additive",)),
        "distilled_additive": spec("distilled_additive", both, "distilled_additive"),
        "distilled_additive_small": spec("distilled_additive_small", both, "distilled_additive", "select_features"),
    }


def races(use_case: UseCase, rows: pa.Table, origins: int) -> Iterator[tuple[date, dict[str, list[PartitionScore]]]]:
    """For each origin the scores of every model, and at the end the fitted models in MODELS."""
    last = pc.max(rows["partition"]).as_py()
    for back in range(origins, 0, -1):
        origin = last - timedelta(days=7 * back)
        scored = rows.filter(between(rows["partition"], origin + timedelta(days=1), origin + timedelta(days=7)))
        train = rows.filter(pc.less(rows["partition"], pa.scalar(origin)))
        fits = SharedFits(train, use_case.label, as_of=origin, threads=2)
        found = {}
        for name, spec in specs_of(use_case).items():
            model = fits.fit(spec, signature_of_spec(use_case, spec))
            graph = export_version(model).graph
            probability = score(load_session(graph, 1), model.signature, scored)
            found[name] = list(partition_scores(scored, use_case.label, probability))
            MODELS[name] = (model, graph)
        SCORED.append(scored)
        yield origin, found


MODELS: dict[str, tuple[FittedModel, bytes]] = {}
SCORED: list[pa.Table] = []


def costs_of(reference: str) -> dict[str, tuple[float, float]]:
    """(rows per second, bytes) of every model at the newest origin; the best of MEASUREMENTS turns."""
    rows = pa.concat_tables(SCORED[-4:])
    trees = MODELS[reference][0]
    found: dict[str, tuple[float, float]] = {}

    def note(name: str, speed: float, size: float) -> None:
        found[name] = (max(speed, found.get(name, (0.0, 0.0))[0]), size)

    with tempfile.TemporaryDirectory() as folder:
        compiled = compiled_trees(trees, rows, Path(folder))
        for _ in range(MEASUREMENTS):
            native = measure_native(trees, rows)
            note(f"{reference}, inplace_predict", native["native_rows_per_second"], native["native_bytes"])
            if compiled is not None:
                note(f"{reference}, compiled", compiled[0](), compiled[1])
            for name, (model, graph) in MODELS.items():
                note(name, measure(graph, model.signature, rows)["rows_per_second"], len(graph))
    return found


def compiled_trees(fitted: FittedModel, rows: pa.Table, folder: Path) -> tuple[Callable[[], float], int] | None:
    """The trees as a C library, stripped: a measurement of its rows per second, and its bytes. None without TL2cgen."""
    try:
        import tl2cgen
        import treelite
    except ImportError:
        return None
    library = folder / "trees.so"
    model = treelite.frontend.from_xgboost(fitted.pipeline[-1].get_booster())
    tl2cgen.export_lib(model, toolchain="gcc", libpath=str(library), options=["-s"])
    predictor = tl2cgen.Predictor(str(library), nthread=1)
    features = fitted.pipeline[:-1].transform(feature_frame(rows.slice(0, BATCH_ROWS), fitted.signature))
    batch = tl2cgen.DMatrix(np.ascontiguousarray(features, dtype=np.float32), dtype="float32")
    count = len(features)

    def rows_per_second() -> float:
        # The predictor works in a thread of its own: processor time of the process, nothing else running in it.
        seconds = []
        for _ in range(BATCH_REPEATS):
            start = time.process_time()
            predictor.predict(batch)
            seconds.append(max(time.process_time() - start, 1e-9))
        return count / min(seconds)

    difference = np.abs(predictor.predict(batch).ravel() - fitted.probability(rows.slice(0, BATCH_ROWS))).max()
    if difference > LARGEST_COMPILED_DIFFERENCE:
        raise SystemExit(f"The compiled trees differ from XGBoost by {difference:.1e}: nothing was measured.")
    return rows_per_second, library.stat().st_size


def report(scores: dict[str, list[PartitionScore]]) -> tuple[list[str], bool]:
    """The table, and whether an additive student reaches the aim."""
    losses = {name: np.array([one.log_loss for one in own]) for name, own in scores.items()}
    aucs = {name: np.array([one.auc for one in own], dtype=float) for name, own in scores.items()}
    reference = min(TREES, key=lambda name: losses[name].mean())
    costs = costs_of(reference)
    base_speed, base_size = costs[f"{reference}, inplace_predict"]
    lines = [
        f"strongest tree ensemble: {reference}; {len(losses[reference])} partitions; differences from it with 95 % "
        "intervals (moving blocks of 7 partitions)",
        f"{'model':<34} {'log loss':>8} {'difference':>25} {'AUC':>7} {'difference':>25} {'kB':>7} {'M rows/s':>8} "
        f"{'faster':>7} {'smaller':>8}",
    ]
    reached = []
    for name, (speed, size) in sorted(costs.items(), key=lambda item: -item[1][0]):
        model = name.split(",")[0]
        loss, auc = losses[model] - losses[reference], aucs[model] - aucs[reference]
        loss_interval, auc_interval = _interval(loss), _interval(auc)
        faster, smaller = speed / base_speed, base_size / size
        lines.append(
            f"{name:<34} {losses[model].mean():8.4f} {_difference(loss.mean(), loss_interval):>25} "
            f"{aucs[model].mean():7.4f} {_difference(auc.mean(), auc_interval):>25} {size / 1000:7.1f} "
            f"{speed / 1e6:8.3f} {faster:6.1f}x {smaller:7.1f}x"
        )
        no_loss = loss_interval[0] <= 0 and auc_interval[1] >= 0
        if name in STUDENTS and faster >= FASTER and smaller >= SMALLER and no_loss:
            reached.append(name)
    for one, other in (("distilled_additive", "additive_on_labels"), ("distilled_additive", "logistic_regression")):
        for what, values in (("log loss", losses), ("AUC", aucs)):
            paired = values[one] - values[other]
            lines.append(f"{one} - {other}, {what}: {_difference(paired.mean(), _interval(paired))}")
    lines.append(f"{FASTER}x the rows per second, 1/{SMALLER} of the size, no significant loss: "
                 f"{', '.join(reached) or 'reached by none'}")  # fmt: skip
    return lines, bool(reached)


def _interval(differences: np.ndarray) -> tuple[float, float]:
    paired = moving_blocks(differences, np.arange(len(differences)), block_days=7, confidence=0.95, seed=0)
    if paired.low is None or paired.high is None:
        raise SystemExit("There are too few partitions for an interval.")
    return paired.low, paired.high


def _difference(mean: float, interval: tuple[float, float]) -> str:
    return f"{mean:+.4f} ({interval[0]:+.4f}, {interval[1]:+.4f})"


def main() -> int:
    """Print the table; the exit code says whether the aim is reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=300)
    parser.add_argument("--origins", type=int, default=20)
    parser.add_argument("--rows", type=Path)
    arguments = parser.parse_args()
    use_case = load_use_case("flight_delay")
    path: Path | None = arguments.rows
    start = time.perf_counter()
    if path is not None and path.exists():
        rows = pq.read_table(path)
    else:
        rows = build_rows(use_case, arguments.days)
        if path is not None:
            pq.write_table(rows, path, compression="zstd")
    print(f"{rows.num_rows} rows of {arguments.days - 1} partitions in {time.perf_counter() - start:.0f} s", flush=True)
    scores: dict[str, list[PartitionScore]] = defaultdict(list)
    for origin, found in races(use_case, rows, arguments.origins):
        for name, own in found.items():
            scores[name] += own
        line = ", ".join(f"{name} {np.mean([one.log_loss for one in own]):.4f}" for name, own in found.items())
        print(f"{origin} after {time.perf_counter() - start:.0f} s: {line}", flush=True)
    lines, reached = report(scores)
    print("\n".join(lines))
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
