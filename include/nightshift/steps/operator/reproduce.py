"""Rebuild a past training or prediction from its recorded inputs and compare the artifacts byte for byte.

Each recorded artifact is made again by its step, from its recorded inputs, on a store that returns the statuses of
that time and writes nothing (`services.recorded`). The identities of the artifacts are compared: the hashes of
inputs, parameters and files. A training is rebuilt from the partition's training rows to the
verifications, with the specs as recorded; a prediction from the features to the audit, with the versions that were
chosen, which must be on record in `deployments`. Steps that write to the warehouse are not repeated.

Artifact (variant: training or prediction): `reproduction.json` with the verdict, the first step that differs, and
the differences of each artifact; `reproduction.html`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from nightshift.artifact import ArtifactRef, Manifest, canonical_json
from nightshift.core.lifecycle.reproduction import artifact_differences, environment_differences
from nightshift.documents.predict import ModelChoice
from nightshift.errors import ConfigurationError, PartitionNotReady, TerminalError
from nightshift.io.provenance import code_version, library_versions, lock_sha256
from nightshift.pipeline import find_step, run_step
from nightshift.reports.page import render_page
from nightshift.services.recorded import RecordedStore, changed_bytes, recorded_manifests, statuses
from nightshift.steps.context import StepContext

log = logging.getLogger(__name__)

LAST_STEP = {"training": "register", "prediction": "publish_predictions"}
"""The step whose artifact has all rebuilt artifacts among its direct and indirect inputs."""

REBUILT = {
    "training": ("append_training_rows", "build_training_set", "fit", "verify"),
    "prediction": ("build_features", "publish_features", "calibrate", "score", "audit"),
}
"""The steps that are run again, each with the last of its recorded inputs as its arguments."""


def run(context: StepContext, *, what: str) -> ArtifactRef:
    """Commit the verdict on the partition's training or prediction: identical, or differs.

    `what`: training or prediction. Differences, also changed or missing bytes, are a result, not an error. Raises
    PartitionNotReady if nothing is recorded of the partition, ArtifactCorrupt if a manifest is missing,
    ConfigurationError for another `what`.
    """
    use_case, store, partition = context.use_case, context.store, context.partition
    if what not in REBUILT:
        raise ConfigurationError("NS-STORE-001", f"{what!r} cannot be reproduced; choose one of {', '.join(REBUILT)}.")
    last = store.current(use_case.name, LAST_STEP[what], partition)
    to_rebuild, manifests = recorded_manifests(store, last, REBUILT[what], partition.isoformat())
    differences = changed_bytes(store, manifests)
    for manifest in to_rebuild:
        differences[manifest.ref] += _rebuild(context, manifest, manifests)
        log.info("%s %s: %s", use_case.name, _name(manifest), "; ".join(differences[manifest.ref]) or "identical")
    for manifest in (one for one in manifests.values() if one.step == "resolve_model"):
        differences[manifest.ref] += _unknown_versions(context, manifest)
    # Artifacts that were only read are shown first, and only if they changed.
    rebuilt = {manifest.ref for manifest in to_rebuild}
    read = [one for ref, one in manifests.items() if ref not in rebuilt and differences.get(ref)]
    artifacts = [_entry(manifest, differences[manifest.ref]) for manifest in [*read, *to_rebuild]]
    differing = [artifact for artifact in artifacts if artifact["differences"]]
    result = {
        "what": what,
        "partition": partition.isoformat(),
        "verdict": "differs" if differing else "identical",
        "first_difference": differing[0]["name"] if differing else None,
        "artifacts": artifacts,
        "environment": environment_differences(to_rebuild, code_version(), lock_sha256(), library_versions()),
        "taken_as_recorded": dict(
            sorted(Counter(one.step for ref, one in manifests.items() if ref not in rebuilt).items())
        ),
    }
    return context.commit(
        "reproduce",
        variant=what,
        kind="reproduction",
        files={
            "reproduction.json": canonical_json(result),
            "reproduction.html": render_page("reproduction.html.j2", result=result, title=use_case.title),
        },
        inputs={"reproduced": [last]},
        parameters={"what": what},
        metrics={"identical": not differing, "artifacts": len(to_rebuild), "differing": len(differing)},
    )


def _rebuild(context: StepContext, manifest: Manifest, manifests: Mapping[ArtifactRef, Manifest]) -> list[str]:
    """Differences of the rebuilt artifact from the recorded one; the error if the step raises one."""
    store = context.store
    try:
        recorded = RecordedStore(store, statuses(store, manifest, manifests))
        step = find_step(manifest.step)
        inputs = {name: manifest.inputs[name][-1] for name in step.inputs}
        # What was undecided then may be so for ever.
        ref = run_step(manifest.step, replace(context, store=recorded), **inputs, **step.last_try)
        if ref.sha256 == manifest.ref.sha256:
            return []
        rebuilt, files = recorded.committed(ref)
        old = {entry.path: store.read(manifest.ref, entry.path) for entry in manifest.files if entry.path in files}
        return artifact_differences(manifest, rebuilt, old, files)
    except (TerminalError, PartitionNotReady) as error:
        return [f"it cannot be made again: {type(error).__name__}: {error}"]


def _unknown_versions(context: StepContext, choice: Manifest) -> list[str]:
    """Messages about chosen versions that `deployments` lacks, or has with another artifact."""
    recorded = {(row.model_version, row.model.sha256) for row in context.warehouse.decisions() if row.model}
    return [
        f"model_choice.json: deployments has no version {one.model_version} with the artifact {one.model.uri}"
        for one in context.store.read_document(choice.ref, ModelChoice).scored
        if (one.model_version, one.model.sha256) not in recorded
    ]


def _name(manifest: Manifest) -> str:
    return f"{manifest.step} {manifest.variant}".strip()


def _entry(manifest: Manifest, differences: list[str]) -> dict[str, str | list[str]]:
    return {
        "name": _name(manifest),
        "partition": manifest.partition,
        "uri": manifest.ref.uri,
        "sha256": manifest.ref.sha256,
        "verdict": "differs" if differences else "identical",
        "differences": differences,
    }
