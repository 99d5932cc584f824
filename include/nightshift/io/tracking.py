"""Trainings in MLflow: one run each, and a version of the registered model with the use case's name.

A run is identified by the hash of the model artifact, so a retry completes it. The model in MLflow is a copy,
to be inspected or loaded with `models:/<use case>@champion`; predictions use the artifact that `deployments`
names.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nightshift.artifact import ArtifactRef
from nightshift.core.lifecycle.state import State, Version
from nightshift.declare.use_case import UseCase
from nightshift.errors import ConfigurationError, TrackingUnavailable
from nightshift.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

log = logging.getLogger(__name__)

CHAMPION_ALIAS = "champion"
MODEL_FOLDER = "model"
HASH_TAG = "nightshift.model_sha256"
PARTITION_TAG = "nightshift.partition"
DECISION_TAG = "nightshift.decision"
STAGE_TAG = "nightshift.stage"
RETIRED = "retired"
OBJECT_STORES = ("s3", "gs", "abfss", "wasbs")
"""Schemes of artifact locations that a server may name, each outside of the pipeline's bucket."""
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # A request whose answer was lost may have been done: MLflow's own retry would create a second run, Airflow's looks
    # for the first. A server that never answers holds the task's slot for 20 seconds a try.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


@dataclass(frozen=True)
class TrainingRecord:
    """What is logged about one version. `model`: its ONNX graph; `files`: further files of the run."""

    partition: date
    model_version: str
    model_ref: ArtifactRef
    action: str
    parameters: Mapping[str, str | int]
    metrics: Mapping[str, float]
    model: bytes
    files: Mapping[str, bytes]


def tracking_uri(settings: Settings) -> str | None:
    """Where MLflow is: the setting, else MLFLOW_TRACKING_URI, else None (no tracking)."""
    return settings.mlflow_tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or None


def log_training(settings: Settings, use_case: UseCase, record: TrainingRecord) -> str | None:
    """Log a version and register its model, once even if called again; returns the run's id.

    The registered version gets the tag `nightshift.decision`; aliases are set by `mirror_aliases`. None,
    with a log line, where no tracking is configured.
    Raises TrackingUnavailable if MLflow does not answer and ConfigurationError if it rejects the request, or if a
    server names a place for files that this process would write to with the pipeline's credentials.
    """
    with _connected(settings) as client:
        if client is None:
            return None
        experiment = _experiment(client, settings, use_case)
        run = _run(client, experiment, record)
        _check_artifact_uri(settings, run.info.artifact_uri)
        if run.info.status != "FINISHED":
            _log_run(client, run, use_case, record)
        _register(client, run, use_case, record)
        client.set_tag(run.info.run_id, DECISION_TAG, record.action)
        run_id: str = run.info.run_id
    log.info("MLflow run %s of %s", run_id, record.model_version)
    return run_id


def mirror_aliases(settings: Settings, use_case: UseCase, state: State, recorded: str) -> None:
    """Set the registered model's aliases from the decisions in `deployments`, and tag the versions that are retired.

    Aliases: champion, challenger (in shadow or canary), former (champion, still scored), fallback; each names the
    newest version of the spec. One whose version is not registered in MLflow, or that has no model,
    is removed. Nothing is done, with a log line, where no tracking is configured or nothing was ever
    registered. Raises TrackingUnavailable if MLflow does not answer and ConfigurationError if it rejects the request;
    both messages begin with `recorded`, a sentence that says which decision is saved.
    """
    try:
        with _connected(settings) as client:
            versions = client.search_model_versions(f"name = '{use_case.name}'") if client else []
            if client is None or not versions:
                log.info("MLflow has no model %s: no alias is set.", use_case.name)
                return
            _set_aliases(client, use_case.name, versions, expected_aliases(state))
            for registered in versions:
                version = f"{registered.tags.get(PARTITION_TAG)}-{registered.tags.get(HASH_TAG, '')[:8]}"
                is_tagged = registered.tags.get(STAGE_TAG) == RETIRED
                if version in state.retired and not is_tagged:
                    client.set_model_version_tag(use_case.name, registered.version, STAGE_TAG, RETIRED)
                elif is_tagged and version not in state.retired:
                    client.delete_model_version_tag(use_case.name, registered.version, STAGE_TAG)
    except (TrackingUnavailable, ConfigurationError) as error:
        message = f"{recorded} The decision is saved; the next run syncs the MLflow aliases. {error.message}"
        raise type(error)(error.code, message) from None


def expected_aliases(state: State) -> dict[str, Version | None]:
    """The version of each alias, or None."""
    specs = {
        CHAMPION_ALIAS: state.champion,
        "challenger": state.challenge.spec_id if state.challenge else None,
        "former": state.watched,
        "fallback": state.fallback,
    }
    return {alias: state.version(spec_id) for alias, spec_id in specs.items()}


def _set_aliases(
    client: MlflowClient, name: str, versions: Sequence[ModelVersion], targets: Mapping[str, Version | None]
) -> None:
    by_hash = {
        registered.tags[HASH_TAG]: str(registered.version) for registered in versions if HASH_TAG in registered.tags
    }
    # Versions from a search may lack their aliases; the registered model has all.
    current = {alias: str(version) for alias, version in client.get_registered_model(name).aliases.items()}
    for alias, target in targets.items():
        version = by_hash.get(target.model.sha256) if target else None
        if version is not None and current.get(alias) != version:
            client.set_registered_model_alias(name, alias, version)
        elif version is None and alias in current:
            client.delete_registered_model_alias(name, alias)


def _experiment(client: MlflowClient, settings: Settings, use_case: UseCase) -> str:
    # A server has a default artifact location; with a database as the tracking store it would be this machine.
    location = None if _is_server(settings) else f"s3://{settings.bucket}/{use_case.name}/mlflow"
    with _ignore_existing():
        return str(client.create_experiment(use_case.name, artifact_location=location))
    experiment = client.get_experiment_by_name(use_case.name)
    return str(experiment.experiment_id)


def _check_artifact_uri(settings: Settings, artifact_uri: str) -> None:
    """Raise ConfigurationError if a server lets the run's files be written into the pipeline's bucket, or a folder.

    Whoever reaches a server can set that place, and this process would write there with its own credentials.
    """
    place = urlsplit(artifact_uri)
    by_server = place.scheme == "mlflow-artifacts" and not place.netloc
    elsewhere = place.scheme in OBJECT_STORES and place.netloc != settings.bucket
    if _is_server(settings) and not (by_server or elsewhere):
        raise ConfigurationError(
            "NS-STORE-021",
            f"MLflow's server would have the files of this training written to {artifact_uri}, with the pipeline's own "
            "credentials. Let it serve artifacts (mlflow server --artifacts-destination), and look who changed the "
            "artifact location of the experiment.",
        )


def _is_server(settings: Settings) -> bool:
    """Whether MLflow is a server; otherwise its tracking store is a database or a folder."""
    return (tracking_uri(settings) or "").startswith("http")


def _run(client: MlflowClient, experiment: str, record: TrainingRecord) -> Run:
    """The run of this model, or a new one."""
    runs = client.search_runs([experiment], filter_string=f"tags.`{HASH_TAG}` = '{record.model_ref.sha256}'")
    if runs:
        return runs[0]
    return client.create_run(
        experiment,
        run_name=record.model_version,
        tags={
            HASH_TAG: record.model_ref.sha256,
            PARTITION_TAG: record.partition.isoformat(),
            "nightshift.model_uri": record.model_ref.uri,
        },
    )


def _log_run(client: MlflowClient, run: Run, use_case: UseCase, record: TrainingRecord) -> None:
    """Parameters, metrics and files; then the run counts as finished."""
    from mlflow.entities import Metric, Param

    # The cutoff, not now: a metric that is logged again is then the same point.
    stamp = int(use_case.cutoff(record.partition).timestamp() * 1000)
    metrics = [Metric(name, float(value), stamp, 0) for name, value in record.metrics.items()]
    parameters = [Param(name, str(value)) for name, value in record.parameters.items()]
    client.log_batch(run.info.run_id, metrics=metrics, params=parameters)
    with tempfile.TemporaryDirectory() as folder:
        _save_model(record.model, Path(folder) / MODEL_FOLDER)
        for name, body in record.files.items():
            (Path(folder) / name).write_bytes(body)
        client.log_artifacts(run.info.run_id, folder)
    client.set_terminated(run.info.run_id, "FINISHED")


def _save_model(model: bytes, folder: Path) -> None:
    import mlflow.onnx
    import onnx

    # With explicit requirements MLflow does not load and run the model in another process to infer them.
    mlflow.onnx.save_model(
        onnx.ModelProto.FromString(model),
        str(folder),
        pip_requirements=[f"{name}=={version(name)}" for name in ("onnx", "onnxruntime", "numpy")],
        save_as_external_data=False,
    )


def _register(client: MlflowClient, run: Run, use_case: UseCase, record: TrainingRecord) -> None:
    name = use_case.name
    with _ignore_existing():
        client.create_registered_model(name, description=use_case.title)
    versions = client.search_model_versions(f"name = '{name}' and run_id = '{run.info.run_id}'")
    if versions:
        registered = versions[0].version
    else:
        tags = {HASH_TAG: record.model_ref.sha256, PARTITION_TAG: record.partition.isoformat()}
        source = f"{run.info.artifact_uri}/{MODEL_FOLDER}"
        registered = client.create_model_version(name, source, run.info.run_id, tags=tags).version
    client.set_model_version_tag(name, registered, DECISION_TAG, record.action)


@contextmanager
def _ignore_existing() -> Iterator[None]:
    """Ignore the error that another process created the object already."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


@contextmanager
def _connected(settings: Settings) -> Iterator[MlflowClient | None]:
    """A client of the configured tracking server, its errors converted; None, with a log line, if there is none."""
    uri = tracking_uri(settings)
    if uri is None:
        log.info("MLflow is not configured (mlflow_tracking_uri, MLFLOW_TRACKING_URI): nothing is logged there.")
        yield None
        return
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    where = uri.split("@")[-1]
    try:
        yield MlflowClient(tracking_uri=uri, registry_uri=uri)
    except MlflowException as error:
        # The message may contain the URI with its password; so may the cause, which is left out.
        message = re.sub(r"//[^/\s]+@", "//", str(error.message))
        if error.get_http_status_code() < 500:  # type: ignore[no-untyped-call]
            raise ConfigurationError(
                "NS-STORE-006",
                f"MLflow at {where} rejected the request ({error.error_code}): {message}. Check MLFLOW_TRACKING_URI, "
                "the version of the server and the credentials.",
            ) from None
        raise TrackingUnavailable(
            "NS-STORE-007", f"MLflow at {where} did not answer ({error.error_code}): {message}. Is it up and reachable?"
        ) from None
