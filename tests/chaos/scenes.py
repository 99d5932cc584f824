"""What is disturbed: a publication, a night without training, a night with one. All of the second use case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from unittest import mock

from chaos.night import Night, NotSurvived, deliver
from chaos.plans import Undisturbed
from chaos.services import Services
from chaos.step_process import StepProcess, Work
from chaos.trial import Trial
from nightshift.declare.discovery import load_use_case
from nightshift.declare.policies import RiskPolicy
from nightshift.local.preloaded import PRELOADED
from nightshift.pipeline import find_stage
from nightshift.steps.context import StepContext
from nightshift.steps.predict import score
from support.desk import D, Desk, begin, hours_without_feast
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
    work = Work(use_case, "chaos.scenes.make_history", TRAINED, {})
    services.start_mlflow()
    services.quiet()
    made = StepProcess(services.environment, work).wait()
    if made.kind != "done":
        raise NotSurvived(f"the history could not be made: {made.result}")
    history: History = made.result
    history.copy_trained(Nights(use_case, services.settings, services.store))
    nights = [TRAINED + DAY, TRAINED + 2 * DAY]
    deliver(services, nights)
    Night(services, use_case, Undisturbed()).run(nights[0], without=NO_APPROVAL)
    return Trial(services, use_case, lambda night: night.run(nights[1], without=NO_APPROVAL))


def make_history(context: StepContext) -> History:
    """The history up to the first training, in a process of its own; bucket and warehouse are empty afterwards."""
    return History.make(Nights(context.use_case, context.settings, context.store), TRAINED)


SCENES: dict[str, tuple[Scene, tuple[str, ...]]] = {
    "publication": (publication, TO_PUBLISH),
    "night": (night_without_training, tuple(name for name in PRELOADED if name not in TO_TRAIN)),
    "training": (night_with_training, PRELOADED),
}
"""By name, each with the modules that the process imports from which steps are forked."""
