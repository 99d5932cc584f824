"""What is disturbed: a publication, a night, one that trains, decisions by hand; all of the second use case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from typing import Any
from unittest import mock

import pyarrow as pa

from chaos.night import Night, NotSurvived, deliver
from chaos.plans import Undisturbed
from chaos.services import Services
from chaos.step_process import StepProcess, Work
from chaos.trial import Trial
from nightshift.artifact import ArtifactRef
from nightshift.core.search import race
from nightshift.declare.discovery import load_use_case
from nightshift.declare.policies import RiskPolicy, SearchPolicy
from nightshift.declare.use_case import UseCase
from nightshift.documents.promote import Advance
from nightshift.local.preloaded import PRELOADED
from nightshift.pipeline import find_stage, run_step
from nightshift.services.orphans import sweep
from nightshift.steps.context import StepContext
from nightshift.steps.predict import score
from support.champions import ANNA, WHY, Grown
from support.desk import SIMILAR, D, Desk, begin, hours_without_feast
from support.history import TRAINED, History
from support.nights import Nights

DAY = timedelta(days=1)
NO_APPROVAL = frozenset({"record_approval"})
"""No night without a pending approval runs it."""
NO_TRAINING = NO_APPROVAL | {step.name for step in find_stage("train").steps} - {"append_training_rows"}
TO_TRAIN = frozenset({"mlflow", "sklearn.linear_model", "xgboost", "onnxmltools", "skl2onnx", "scipy.stats"})
TO_PUBLISH = (
    "botocore.session",
    "pyarrow.csv",
    "nightshift.steps.predict.publish_predictions",
    "nightshift.steps.predict.queue_reviews",
)

Scene = Callable[[Services], Trial]


def publication(services: Services) -> Trial:
    """The steps publish_predictions and queue_reviews; what they read is made without Feast and training."""
    use_case = replace(load_use_case("late_returns"), first_partition=D, risk=RiskPolicy())
    desk = Desk(use_case, services.settings, services.store)
    begin(desk)
    desk.deliver(D)
    with mock.patch.object(score, "historical_features", hours_without_feast):
        scores = desk.score(D, desk.choose(D))
    audited = desk.step("audit", D, scores=scores)

    def publish(night: Night) -> None:
        published = night.step("publish_predictions", D, scores=scores, audited=audited)
        night.step("queue_reviews", D, published=published)

    return Trial(services, use_case, publish)


def night_without_training(services: Services) -> Trial:
    """The second night of versions that were made by hand: all steps but those from build_training_set on."""
    use_case = replace(load_use_case("late_returns"), first_partition=D, risk=RiskPolicy())
    desk = Desk(use_case, services.settings, services.store)
    begin(desk)
    desk.fail_training(D)
    deliver(services, [D, D + DAY])
    Night(services, use_case, Undisturbed()).run(D, without=NO_TRAINING)
    return Trial(services, use_case, lambda night: night.run(D + DAY, without=NO_TRAINING))


def night_with_training(services: Services) -> Trial:
    """The second night after the first training of the second use case; it trains itself."""
    use_case = replace(load_use_case("late_returns"), risk=RiskPolicy())
    services.start_mlflow()
    nights = after_first_training(services, use_case, nights=2)
    Night(services, use_case, Undisturbed()).run(nights[0], without=NO_APPROVAL)
    return Trial(services, use_case, lambda night: night.run(nights[1], without=NO_APPROVAL))


def search(services: Services) -> Trial:
    """What looks for better specs: search, attack, backtest and nomination; and what was recorded, reproduced."""
    policy = SearchPolicy(trials=2, seconds=3600.0, folds=2, fold_days=2, origins=2, origin_days=2)
    use_case = load_use_case("late_returns")
    # The days before are too few for a version.
    promotion = replace(use_case.promotion, backtest_partitions=3)
    use_case = replace(use_case, risk=RiskPolicy(), search=policy, promotion=promotion)
    (last,) = after_first_training(services, use_case, nights=1)
    Night(services, use_case, Undisturbed()).run(last, without=NO_APPROVAL)

    def look_for_specs(night: Night) -> None:
        rows = {"training_set": night.step("find_training_set", last)}
        studied = night.step("study", last, **rows)
        origins = night.step("plan_race", last, **rows, studied=studied)
        raced = [night.step("chaos.scenes.race_without_clock", last, **rows, origin=origin) for origin in origins]
        selected = night.step("select_candidates", last, raced=raced)
        versions = [night.step("fit", last, **rows, spec=spec) for spec in selected]
        verified = [night.step("verify", last, **rows, version=version) for version in versions]
        night.step("report_search", last, studied=studied, selected=selected, verified=verified)
        night.run(last, stages=["attack", "backtest"])
        for what in ("training", "prediction"):
            night.step("reproduce", last, what=what)

    return Trial(services, use_case, look_for_specs)


def race_without_clock(context: StepContext, **arguments: Any) -> ArtifactRef:
    """The step `race`, to which all models are as fast: what it measures would differ between two attempts."""
    costs = {"rows_per_second": 100_000.0, "single_row_p50_ms": 0.1, "single_row_p99_ms": 0.2}
    with (
        mock.patch.object(race, "measure", return_value=costs),
        mock.patch.object(race, "measure_native", return_value={}),
    ):
        ref: ArtifactRef = run_step("race", context, **arguments)
    return ref


def after_first_training(services: Services, use_case: UseCase, *, nights: int) -> list[date]:
    """Make the history up to the first training, and deliver the nights after it; returns their partitions."""
    services.quiet()
    made = StepProcess(services.environment, Work(use_case, "chaos.scenes.make_history", TRAINED, {})).wait()
    if made.kind != "done":
        raise NotSurvived(f"the history could not be made: {made.result}")
    history: History = made.result
    history.copy_trained(Nights(use_case, services.settings, services.store))
    after = [TRAINED + number * DAY for number in range(1, nights + 1)]
    deliver(services, after)
    return after


def by_hand(services: Services) -> Trial:
    """What people decide about a published partition, what a failed night leaves, and the sweep of orphans."""
    use_case = replace(load_use_case("late_returns"), first_partition=D, risk=RiskPolicy())
    desk = Desk(use_case, services.settings, services.store)
    with mock.patch.object(score, "historical_features", hours_without_feast):
        grown = Grown(desk)
    challenger = use_case.challengers[0]
    desk.register(challenger, D, SIMILAR, role="challenger")
    desk.decide(D, "shadow", challenger)
    desk.decide(D, "canary", challenger, share=0.4)
    pending = Advance(
        partition=D, action="awaiting_approval", spec_id=challenger.spec_id, champion=grown.third.spec_id, why="a trial"
    )
    advanced = desk.store.commit(
        use_case=use_case.name, step="advance", partition=D, kind="advance", files=pending.to_files()
    )
    key = {"booking_date": D + DAY, "booking": 19}
    uncertain = {"score": 0.5, "certainty": 0.5, "out_of_domain": False, "out_of_range": 0, "reason": "a trial"}
    scores = desk.store.current(use_case.name, "score", D)
    desk.warehouse.queue_reviews(D, scores, pa.Table.from_pylist([key | uncertain]))
    grown.switch("on")
    switched_on = grown.newest_decision()
    desk.store.put(f"{use_case.name}/score/{D}/0123456789abcdef/scores.parquet", b"of a commit that was interrupted")

    def decide(night: Night) -> None:
        why = {"reason": WHY, "decided_by": ANNA}
        night.step("annul_decision", D, deployment_id=switched_on, **why)
        night.step("kill_switch", D, state="on", **why)
        night.step("record_approval", D, advanced=advanced, answer="approved", decided_by=ANNA)
        night.step("rollback_model", D, **why)
        night.step("retire_model", D, spec_or_version=grown.first.spec_id, **why)
        night.step("answer_review", D, key=list(map(str, key.values())), answer=1, decided_by=ANNA)
        for stage in ("train", "predict"):
            night.step("record_failure", D + DAY, stage=stage, run_id="of a trial", failed_tasks=["score"])
        night.step("chaos.scenes.sweep_orphans", D)

    return Trial(services, use_case, decide)


def sweep_orphans(context: StepContext) -> None:
    """What the task of maintenance does, of all that was written until tomorrow."""
    sweep(context.use_case, context.settings, context.store, days=-1, delete=True)


def make_history(context: StepContext) -> History:
    """The history up to the first training, in a process of its own; bucket and warehouse are empty afterwards."""
    return History.make(Nights(context.use_case, context.settings, context.store), TRAINED)


SCENES: dict[str, tuple[Scene, tuple[str, ...]]] = {
    "publication": (publication, TO_PUBLISH),
    "night": (night_without_training, tuple(name for name in PRELOADED if name not in TO_TRAIN)),
    "training": (night_with_training, PRELOADED),
    "search": (search, PRELOADED),
    "by-hand": (by_hand, TO_PUBLISH),
}
"""By name, each with the modules that the process imports from which steps are forked."""
