"""Checks of a use case's names, specs and policies that need no files or services."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from difflib import get_close_matches

from nightshift.core.checks.faults import DeclarationFault
from nightshift.core.compression.students.students import DEFAULTS as STUDENTS
from nightshift.core.compression.techniques import TECHNIQUES
from nightshift.core.features.feature_computation import EVENT_TIMESTAMP, PARTITION
from nightshift.core.features.training_rows import KNOWN_ON, SPLIT
from nightshift.core.inference.certainty import CERTAINTY_SCHEMA
from nightshift.core.models.estimators import DEFAULTS, check_columns
from nightshift.core.search.candidates import candidate_specs
from nightshift.core.versions.version import check_names, signature_of_spec
from nightshift.declare.models import ModelSpec
from nightshift.declare.use_case import UseCase
from nightshift.errors import ConfigurationError

IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]{0,62}", re.IGNORECASE)
OF_PREDICTIONS = ("decision", "model_version", "publish_id", "predicted_at", *CERTAINTY_SCHEMA.names)
"""Columns that the predictions table has besides the declared ones."""
OF_TRAINING_ROWS = (PARTITION, KNOWN_ON, SPLIT, EVENT_TIMESTAMP)
"""Columns that training rows have besides the declared ones."""


def name_faults(use_case: UseCase) -> list[DeclarationFault]:
    """Faults of names: no plain SQL identifier, used twice, or reserved."""
    features = use_case.features
    key, extra = use_case.key_columns, [column.name for column in use_case.prediction_extra]
    join_keys = {key for table in features.tables for key in table.join_keys}
    monitored = [name for table in features.tables for name in table.monitored]
    curated = {column.name for feed in use_case.feeds for column in feed.curated}
    every = [
        *([use_case.name, use_case.score, use_case.label, *key, *extra]),
        *(feed.name for feed in use_case.feeds),
        *(table.name for table in features.tables),
        *curated, *join_keys, *features.numeric, *features.categorical, *monitored,
    ]  # fmt: skip
    faults = [
        DeclarationFault(
            "NS-USECASE-027",
            f"{name!r} is not a plain SQL identifier.",
            "Use letters, digits and _, at most 63, and no digit at the beginning.",
            (name,),
        )
        for name in dict.fromkeys(every)
        if not IDENTIFIER.fullmatch(name)
    ]
    groups = {
        "feeds": [feed.name for feed in use_case.feeds],
        "feature tables": [table.name for table in features.tables],
        "features": [*features.numeric, *features.categorical, *monitored],
        "columns of the predictions": [*key, *extra, use_case.score, *OF_PREDICTIONS],
        "columns of the training rows": [
            *dict.fromkeys([*key, *features.numeric, *features.categorical]), use_case.label, *OF_TRAINING_ROWS,
        ],
    }  # fmt: skip
    for what, names in groups.items():
        for name in (name for name, count in Counter(names).items() if count > 1):
            what = f"Two {what} are called {name}."
            faults.append(DeclarationFault("NS-USECASE-028", what, "Rename one of them.", (name,)))
    for feed in use_case.feeds:
        if unknown := [name for name in feed.key if name not in {column.name for column in feed.curated}]:
            what = f"The key of feed {feed.name} names {unknown}, which are not among its curated columns."
            advice = "Name curated columns of the feed."
            faults.append(DeclarationFault("NS-USECASE-029", what, advice, (*unknown, feed.name)))
    if unknown := sorted(set(features.join_keys) - join_keys):
        what = f"FeatureSet.join_keys names {unknown}, which no feature table has as a join key."
        advice = "Take them out, or add them to the join_keys of a feature table."
        faults.append(DeclarationFault("NS-USECASE-030", what, advice, (*unknown,)))
    return faults


def spec_faults(use_case: UseCase) -> list[DeclarationFault]:
    """Faults of specs and of the search: unknown estimators, techniques, students, parameters and features."""
    faults = []
    specs = (use_case.champion, use_case.fallback, *use_case.challengers)
    checks: list[Callable[[], object]] = [lambda: candidate_specs(use_case, (), {})]
    for spec in specs:
        checks += [lambda spec=spec: check_names(spec), lambda spec=spec: _check_features(use_case, spec)]  # type: ignore[misc]
    for check in checks:
        try:
            check()
        except ConfigurationError as error:
            unknown = tuple(re.findall(r"'([^']+)'", error.message))
            features = [*use_case.features.numeric, *use_case.features.categorical]
            near = get_close_matches(unknown[0], [*DEFAULTS, *TECHNIQUES, *STUDENTS, *features], 1) if unknown else []
            meant = f"Did you mean {near[0]}? " if near and near[0] != unknown[0] else ""
            advice = f"{meant}docs/reference.md lists what there is."
            faults.append(DeclarationFault(error.code, error.message, advice, unknown[:1]))
    taking = {*DEFAULTS, *STUDENTS, *TECHNIQUES}
    for owner, parameters in [("training", use_case.training.parameters), *((s.name, s.parameters) for s in specs)]:
        if unknown_names := sorted(set(parameters) - taking):
            what = f"The parameters of {owner} are for {unknown_names}, which are not estimators or techniques."
            advice = f"Known are {', '.join(sorted(taking))}."
            faults.append(DeclarationFault("NS-USECASE-031", what, advice, (*unknown_names,)))
    names = Counter(spec.name for spec in specs)
    for name in (name for name, count in names.items() if count > 1):
        what = f"Two specs are called {name}."
        faults.append(DeclarationFault("NS-USECASE-032", what, "Rename one of them.", (name,)))
    return list(dict.fromkeys(faults))


def _check_features(use_case: UseCase, spec: ModelSpec) -> None:
    """Raises ConfigurationError for a feature that is not declared, or a parameter that names none of the spec's."""
    signature = signature_of_spec(use_case, spec)
    for name in spec.estimators:
        check_columns(name, spec.parameters.get(name, {}), signature)


def policy_faults(use_case: UseCase) -> Iterator[DeclarationFault]:
    """Faults of policies that no data can meet."""
    training, promotion, drift = use_case.training, use_case.promotion, use_case.drift
    low, high = use_case.audit.mean_score_between
    if not 0 <= low < high <= 1:
        what = f"mean_score_between is {low} to {high}."
        advice = "Give two probabilities, the lower first."
        yield DeclarationFault("NS-USECASE-033", what, advice, ("mean_score_between",))
    if not 0 < use_case.decision_threshold < 1:
        what = f"decision_threshold is {use_case.decision_threshold}."
        yield DeclarationFault("NS-USECASE-034", what, "Give a probability.", ("decision_threshold",))
    if training.holdout_days < 1:
        what = "training.holdout_days is below 1."
        advice = "Hold out at least one day: specs are measured on it."
        yield DeclarationFault("NS-USECASE-035", what, advice, ("holdout_days",))
    if not 0 < promotion.canary_share <= 1:
        what = f"promotion.canary_share is {promotion.canary_share}."
        yield DeclarationFault("NS-USECASE-036", what, "Give a share above 0, at most 1.", ("canary_share",))
    if not drift.windows or min(drift.windows) < 1:
        what = f"drift.windows is {drift.windows}: no day is compared."
        yield DeclarationFault("NS-USECASE-037", what, "Give lengths of at least one day.", ("windows",))
    if drift.least_reference_days > drift.reference_days:
        what = f"drift.reference_days {drift.reference_days} is below least_reference_days: nothing ever drifts."
        advice = f"Take at least {drift.least_reference_days}."
        yield DeclarationFault("NS-USECASE-038", what, advice, ("reference_days",))
    attacks = use_case.attacks
    attacked = {name for change in attacks.changes for name in change.features} | set(attacks.trigger)
    if unknown := sorted(attacked - set(use_case.features.numeric)):
        what = f"The attacks change {unknown}, which are not numeric features."
        advice = "Name numeric features in AttackPolicy.changes and .trigger."
        yield DeclarationFault("NS-USECASE-067", what, advice, (*unknown,))
    if use_case.last_partition is None:
        return
    days, needed = (use_case.last_partition - use_case.first_partition).days + 1, partitions_needed(use_case)
    if days <= needed:
        what = f"There are {days} partitions from first_partition to last_partition; a first training needs {needed}."
        advice = "Lower minimum_days and holdout_days, or deliver more partitions."
        yield DeclarationFault("NS-USECASE-039", what, advice, ("minimum_days",))
    elif promotion.backtest_partitions > days - needed:
        what = (
            f"A backtest of {promotion.backtest_partitions} partitions does not fit into {days} with a training before."
        )
        advice = "Lower promotion.backtest_partitions."
        yield DeclarationFault("NS-USECASE-040", what, advice, ("backtest_partitions",))


def data_faults(use_case: UseCase, rows: Sequence[int], holdout_rows: int) -> Iterator[DeclarationFault]:
    """Faults of policies that data of this size cannot meet: `rows` of each partition, and of all holdout days."""
    most = max(rows, default=0)
    if use_case.promotion.least_rows > most:
        what = f"promotion.least_rows is {use_case.promotion.least_rows}; the largest partition has {most} rows."
        advice = "Lower it: no partition counts for shadow, canary and rollback."
        yield DeclarationFault("NS-USECASE-041", what, advice, ("least_rows", "promotion"))
    if use_case.slices.columns and use_case.slices.least_rows > holdout_rows:
        what = f"slices.least_rows is {use_case.slices.least_rows}; all days held out have {holdout_rows} rows."
        advice = "Lower it: every slice is too small to be evaluated."
        yield DeclarationFault("NS-USECASE-042", what, advice, ("least_rows", "slices"))


def begun_at_cutoff(use_case: UseCase, partition: date, moments: Sequence[datetime]) -> DeclarationFault | None:
    """A note that rows of a partition's calendar day are about moments before its cutoff, when they can be known."""
    cutoff = use_case.cutoff(partition)
    if not (begun := [one for one in moments if one < cutoff]):
        return None
    what = (
        f"{len(begun)} of the {len(moments)} rows to score of partition {partition} have a "
        f"{use_case.prediction_moment} before the cutoff {cutoff}, the first {min(begun)}: their outcomes may be known "
        "when they are scored."
    )
    advice = 'Declare window="cutoff_to_cutoff" to predict the time from the cutoff to the next, or leave it so.'
    return DeclarationFault("NS-USECASE-043", what, advice, ("prediction_moment",))


def partitions_needed(use_case: UseCase) -> int:
    """The number of partitions to ingest before a training: the first one's labels have no features."""
    return max(use_case.training.minimum_days, use_case.training.holdout_days + 1) + 1
