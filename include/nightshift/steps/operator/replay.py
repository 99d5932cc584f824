"""Rebuild a past training or prediction from its manifests, and say whether it comes out the same, byte for byte.

Each recorded artifact is made again by the step that made it, from its recorded inputs and with its
recorded seed and parameters, on a store that answers from what was recorded and writes nothing
(nightshift.io.replay_store). What is compared is the identity that the artifact store gives: the
hashes of inputs, parameters and files. Timings are no part of it.

A training is rebuilt from the training set to the selected model; its inputs (curated data, published
features, hyperparameters found by a search, which ends by the clock) are taken as recorded. A
prediction is rebuilt from the night's features to the audit; the choice of the model is what
`deployments` said then, so it is looked up there instead. Registering and publishing write to the
warehouse and are not repeated.

Artifact (variant: what was replayed): `replay.json`, `replay.html`, see core.replay_report.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import logging
import time
from collections import Counter
from datetime import date
from typing import Any, Literal

from nightshift.artifact import ArtifactRef, Manifest, canonical_json
from nightshift.core.replay_comparison import ABSENT, describe_difference, differing_keys
from nightshift.core.replay_report import Replayed, environment_differences, render, summarise
from nightshift.errors import ArtifactCorrupt, ConfigurationError, PartitionNotReady, TerminalError
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.provenance import code_version, library_versions, lock_sha256
from nightshift.io.recorded_chain import RecordedChain, recorded_chain
from nightshift.io.replay_store import ReplayStore
from nightshift.io.warehouse import Warehouse
from nightshift.pipeline import STAGE_OF_STEP, step_module
from nightshift.settings import Settings
from nightshift.usecase import UseCase, parse_partition

log = logging.getLogger(__name__)

What = Literal["training", "prediction"]

LAST_STEP = {"training": "select_model", "prediction": "publish_predictions"}
"""What was decided for the partition by this step is what is replayed."""

REBUILT = {
    "training": ("build_training_set", "fit", "distil", "compress", "export", "verify", "select_model"),
    "prediction": ("build_features", "publish_features", "score", "audit"),
}

ALL_OF = {
    "teachers": "fit",
    "fitted": "fit",
    "distilled": "distil",
    "compressed": "compress",
    "exports": "export",
    "verified": "verify",
}
"""Arguments that get every artifact a mapped step made, though the manifest may only name those that were used."""

ONE_OF = {"training_set": "build_training_set"}
"""Arguments that every call gets, though one that had no use for it may not name it."""

DECLARED_FOR_TRAINING = ("seed", "holdout_days", "window_days", "parity_tolerance")
HYPERPARAMETERS = "hyperparameters"
DECLARED_FOR_DECISIONS = "decision_threshold"


def run(use_case: UseCase, settings: Settings, store: ArtifactStore, partition: date, *, what: What) -> ArtifactRef:
    """Commit the verdict on the partition's training or prediction: identical, or the first step that differs.

    A difference is a finding, not an error. Raises PartitionNotReady if the partition has no such
    record, ArtifactCorrupt naming the object if bytes that it rests on are missing or changed, and
    ConfigurationError for another `what`.
    """
    if what not in REBUILT:
        raise ConfigurationError(f"{what!r} cannot be replayed; say one of {', '.join(REBUILT)}.")
    last = _recorded(use_case, store, partition, what)
    chain = recorded_chain(store, last, REBUILT[what])
    replayed: list[Replayed] = []
    seconds: dict[str, float] = {}
    if what == "prediction":
        replayed.append(_model_choice(use_case, settings, store, chain))
    declared = use_case
    for manifest in chain.artifacts:
        started = time.perf_counter()
        # What one manifest says was declared then (the seed) was declared for the steps after it, too.
        artifact, declared = _replay(declared, settings, store, chain, manifest)
        seconds[artifact.name] = round(time.perf_counter() - started, 3)
        log.info("%s %s: %s", use_case.name, artifact.name, "; ".join(artifact.differences) or artifact.verdict)
        replayed.append(artifact)
    taken = Counter(manifest.step for manifest in chain.read())
    environment = environment_differences(chain.artifacts, code_version(), lock_sha256(), library_versions())
    summary = summarise(what, partition.isoformat(), replayed, environment, dict(sorted(taken.items())))
    return store.commit(
        use_case=use_case.name,
        step="replay",
        partition=partition,
        variant=what,
        kind="replay",
        files={
            "replay.json": canonical_json(summary),
            "replay.html": render(summary, title=use_case.title).encode(),
        },
        inputs={"replayed": [last]},
        parameters={"what": what},
        metrics={
            "identical": summary["verdict"] == "identical",
            "artifacts": len(replayed),
            "differing": sum(1 for artifact in replayed if artifact.differences),
            "seconds": seconds,
        },
    )


def _recorded(use_case: UseCase, store: ArtifactStore, partition: date, what: What) -> ArtifactRef:
    step = LAST_STEP[what]
    decision = store.decision(use_case.name, step, partition)
    if decision is None or decision.ref is None:
        raise PartitionNotReady(
            f"{use_case.name} has no recorded {what} of partition {partition}: {step} decided nothing there. "
            f"Replay a partition that {use_case.name}.{STAGE_OF_STEP[step]} has run for."
        )
    return decision.ref


def _replay(
    use_case: UseCase, settings: Settings, store: ArtifactStore, chain: RecordedChain, manifest: Manifest
) -> tuple[Replayed, UseCase]:
    """Rebuild one artifact as declared, and where that has other parameters, with the recorded ones.

    Returns what was found, and the use case with the recorded parameters.
    """
    declared_otherwise: tuple[str, ...] = ()
    rebuilt = _rebuild(use_case, settings, store, chain, manifest)
    if not isinstance(rebuilt, str):
        use_case, declared_otherwise = _with_recorded_parameters(use_case, manifest, rebuilt[0])
        if declared_otherwise:
            rebuilt = _rebuild(use_case, settings, store, chain, manifest)
    found = Replayed(
        step=manifest.step,
        variant=manifest.variant,
        partition=manifest.partition,
        uri=manifest.ref.uri,
        sha256=manifest.ref.sha256,
        declared_otherwise=declared_otherwise,
    )
    if isinstance(rebuilt, str):
        return dataclasses.replace(found, differences=(rebuilt,)), use_case
    made, bodies = rebuilt
    if made.ref.sha256 == manifest.ref.sha256:
        return found, use_case
    key = tuple(column.name for column in use_case.prediction_key)
    files = _differing_files(manifest, made)
    differences = _differing_inputs(manifest, made) + [
        f"parameter {name}: {old} became {new}"
        for name, old, new in differing_keys(manifest.parameters, made.parameters)
    ]
    for path, (old, new) in files.items():
        if old is None or new is None:
            differences.append(f"{path} was {'not there' if old is None else 'there'}, {'is' if new else 'is not'}")
            continue
        said = describe_difference(path, store.read(manifest.ref, path), bodies[path], key)
        differences.append(f"{path} ({old[:16]} became {new[:16]}): {'; '.join(said)}")
    return dataclasses.replace(found, differences=tuple(differences), files=files), use_case


def _rebuild(
    use_case: UseCase, settings: Settings, store: ArtifactStore, chain: RecordedChain, manifest: Manifest
) -> tuple[Manifest, dict[str, bytes]] | str:
    """What the step commits now, manifest and files, or the error it raises now."""
    module = importlib.import_module(step_module(manifest.step))
    pinned = ReplayStore(store, chain.pins(manifest))
    arguments = step_arguments(inspect.signature(module.run), manifest, chain)
    try:
        ref = module.run(use_case, settings, pinned, parse_partition(manifest.partition), **arguments)
    except ArtifactCorrupt:
        raise
    except (TerminalError, PartitionNotReady) as error:
        return f"it cannot be made again: {type(error).__name__}: {error}"
    return pinned.committed(ref)


def step_arguments(signature: inspect.Signature, manifest: Manifest, chain: RecordedChain) -> dict[str, Any]:
    """The keyword arguments that a step's `run` was called with, from what it recorded.

    Refs come from the inputs of the same name, lists of what a mapped step made from the whole chain,
    strings from the parameters. Arguments with a default were not given. Raises ConfigurationError for
    one that the manifest says nothing of.
    """
    found: dict[str, Any] = {}
    for name, parameter in signature.parameters.items():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY or parameter.default is not inspect.Parameter.empty:
            continue
        recorded = list(manifest.inputs.get(name, ()))
        if name in ALL_OF:
            everything = chain.made_by(ALL_OF[name])
            # In the order in which they were given, which may be part of the artifact's identity.
            found[name] = recorded if set(recorded) == set(everything) else everything
        elif recorded:
            found[name] = recorded[0]
        elif name in ONE_OF:
            (found[name],) = chain.made_by(ONE_OF[name])
        elif parameter.annotation == "str" and (name in manifest.parameters or manifest.variant):
            found[name] = manifest.parameters.get(name, manifest.variant)
        else:
            raise ConfigurationError(
                f"{manifest.ref.uri}manifest.json does not say what {manifest.step} got as {name!r}: "
                "record it as an input or a parameter of that name."
            )
    return found


def _with_recorded_parameters(use_case: UseCase, recorded: Manifest, made: Manifest) -> tuple[UseCase, tuple[str, ...]]:
    """The use case with those recorded parameters that it declares otherwise today, and what they are."""
    said = []
    training, changed = use_case.training, use_case
    for name, old, new in differing_keys(recorded.parameters, made.parameters):
        top, _, rest = name.partition(".")
        if ABSENT in (old, new):
            continue
        if top in DECLARED_FOR_TRAINING:
            training = dataclasses.replace(training, **{top: recorded.parameters[top]})
        elif top == HYPERPARAMETERS and rest:
            own = {**training.parameters.get(recorded.variant, {}), rest: _untyped(recorded.parameters[top][rest])}
            training = dataclasses.replace(training, parameters={**training.parameters, recorded.variant: own})
        elif top == DECLARED_FOR_DECISIONS:
            changed = dataclasses.replace(changed, decision_threshold=recorded.parameters[top])
        else:
            continue
        said.append(f"{name}: {new} (recorded: {old})")
    return dataclasses.replace(changed, training=training), tuple(said)


def _untyped(value: Any) -> Any:
    # JSON has no tuples, and a declaration has no lists: it is frozen.
    return tuple(value) if isinstance(value, list) else value


def _differing_inputs(recorded: Manifest, made: Manifest) -> list[str]:
    """Names of inputs that are other artifacts, with up to one example."""
    said = []
    for name in sorted({*recorded.inputs, *made.inputs}):
        old, new = list(recorded.inputs.get(name, ())), list(made.inputs.get(name, ()))
        if [ref.sha256 for ref in old] == [ref.sha256 for ref in new]:
            continue
        only = [("lost", ref) for ref in old if ref not in new] + [("gained", ref) for ref in new if ref not in old]
        example = f", for example {only[0][0]} {only[0][1].uri}" if only else ", in another order"
        said.append(f"input {name}: {len(old)} artifacts became {len(new)}{example}")
    return said


def _differing_files(recorded: Manifest, made: Manifest) -> dict[str, tuple[str | None, str | None]]:
    """Recorded and rebuilt hash of each file that is not the same; None where it is not there."""
    old = {entry.path: entry.sha256 for entry in recorded.files}
    new = {entry.path: entry.sha256 for entry in made.files}
    return {path: (old.get(path), new.get(path)) for path in sorted({*old, *new}) if old.get(path) != new.get(path)}


def _model_choice(use_case: UseCase, settings: Settings, store: ArtifactStore, chain: RecordedChain) -> Replayed:
    """The recorded choice of the model, held against what `deployments` says."""
    choice = next(manifest for manifest in chain.manifests.values() if manifest.step == "resolve_model")
    named = json.loads(store.read(choice.ref, "model_choice.json"))
    known = {(d.model_version, d.model.sha256) for d in Warehouse(settings, use_case).decisions() if d.model}
    said = [
        f"deployments has no model {model['model_version']} with the artifact {model['model']['uri']}"
        for model in (named, named.get("beside"))
        if model and (model["model_version"], model["model"]["sha256"]) not in known
    ]
    return Replayed(
        step=choice.step,
        variant=choice.variant,
        partition=choice.partition,
        uri=choice.ref.uri,
        sha256=choice.ref.sha256,
        differences=tuple(said),
    )
